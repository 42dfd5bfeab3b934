from __future__ import annotations

from dsd_ort.api.numbers import format_metrics
from dsd_ort.cli.progress import describe


def test_rates_are_printed_in_percent_and_other_metrics_as_numbers() -> None:
    metrics = {"loss": 0.12345, "top-1": 0.98125, "perplexity": 83.456, "cer": 0.1, "wer": 1.25, "mean-error": 2.0}
    assert format_metrics(metrics) == (
        "loss 0.1235  top-1 98.12 %  perplexity 83.46  cer 10.00 %  wer 125.00 %  mean-error 2.0000"
    )


def test_the_place_of_a_measurement_does_not_change_how_it_is_printed() -> None:
    event = {"event": "epoch", "epoch": 3, "train_loss": 1.0, "metrics": {"cer": 0.5, "perplexity": 7.0}, "best": True}
    assert describe(event) == "  epoch 3: train loss 1.0000  eval cer 50.00 %  eval perplexity 7.00  *"
    assert describe(event | {"metrics": {}, "best": False}) == "  epoch 3: train loss 1.0000"
