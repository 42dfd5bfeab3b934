"""Arrays, images, recordings and Python loaders → batches that fit a model.

source (named by a path, module:function, or a Python object) ─ columns (which array is which input) ─ conversion
(shape, dtype, values, crops) ─ dataset ─ subset (a part of it) ─ batches (order, buckets)

In: what a user names.  Out: batches of arrays.  No graph and no ONNX Runtime is imported here.
"""

from dsd_ort.data.batches import Batches, prefetch, with_last
from dsd_ort.data.dataset import Batch, check_batch_size, open_data
from dsd_ort.data.subset import Counted, Dataset, Subset, counted, split, without
from dsd_ort.fields import Field

__all__ = [
    "Batch",
    "Batches",
    "Counted",
    "Dataset",
    "Field",
    "Subset",
    "check_batch_size",
    "counted",
    "open_data",
    "prefetch",
    "split",
    "with_last",
    "without",
]
