"""Dense-sparse-dense beside the same budget spent dense only: a gain is one only against that.

::

    FOLDER/dsd/         the run of the recipe
    FOLDER/dense-only/  that of its dense_only(): the same seeds, batches and learning rates, and nothing pruned
    FOLDER/final.onnx   the model with the weights at the end of the recipe
    FOLDER/report.json  what was measured

The folder is all the state there is: what stands in it is not done again, so the same call goes on after a stop.

In: a model, a recipe, data.  Out: a :class:`~dsd_ort.api.comparison.compare.Comparison`.  The command line (``cli/``)
is not imported here.
"""
