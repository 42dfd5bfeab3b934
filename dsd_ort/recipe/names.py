"""The names that a recipe may use, and which metrics fit which loss."""

from __future__ import annotations

from typing import Literal

LossName = Literal["cross-entropy", "ctc", "bce-with-logits", "mse", "l1", "huber"]
OptimizerName = Literal["sgd", "adam", "adamw"]
BuilderName = Literal["own", "ort"]
RecomputeName = Literal["none", "cheap", "blocks"]
CriterionName = Literal["magnitude", "wanda", "random"]
MetricName = Literal["loss", "top-1", "top-5", "perplexity", "cer", "wer", "mean-error"]

WITH_LABELS: tuple[LossName, ...] = ("cross-entropy", "bce-with-logits", "ctc")
"""The losses whose targets are labels, which a model believes or not; those of the others are values."""

_OF_VALUES: tuple[MetricName, ...] = ("loss", "mean-error")
FITTING_METRICS: dict[LossName, tuple[MetricName, ...]] = {
    "cross-entropy": ("loss", "top-1", "top-5", "perplexity"),
    "ctc": ("loss", "cer", "wer"),
    "bce-with-logits": ("loss",),
    "mse": _OF_VALUES,
    "l1": _OF_VALUES,
    "huber": _OF_VALUES,
}
"""What can be measured at the output of each loss."""

DEFAULT_METRICS: dict[LossName, tuple[MetricName, ...]] = {
    **FITTING_METRICS,
    "cross-entropy": ("loss", "top-1", "top-5"),
    "ctc": ("loss",),
}
"""What is measured where the recipe does not say: what means something for every model, and needs no extra package."""

PERCENTAGES: tuple[MetricName, ...] = ("top-1", "top-5", "cer", "wer")
"""The metrics that people know in percent."""
