"""Dense-sparse-dense beside the same budget spent in other ways: a gain is one only against that.

A comparison has one seed, and DSD beside dense only::

    FOLDER/dsd/         the run of the recipe
    FOLDER/dense-only/  that of its dense_only(): the same seeds, batches and learning rates, and nothing pruned
    FOLDER/final.onnx   the model with the weights at the end of the recipe
    FOLDER/report.json  what was measured

An experiment has many arms and seeds, and data that choose (:mod:`dsd_ort.api.comparison.lab`).  Either folder is all
the state there is: what stands in it is not done again, so the same call goes on after a stop.

In: a model, a recipe, data.  Out: a :class:`~dsd_ort.api.comparison.compare.Comparison` or an
:class:`~dsd_ort.api.comparison.experiment.Experiment`.  The command line (``cli/``) is not imported here.
"""
