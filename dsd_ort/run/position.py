"""How far a run is: the counters that everything random is a function of, and what a phase has seen so far."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Literal, TypeAlias

from dsd_ort.recipe import Recipe

MeasuredOn: TypeAlias = Literal["training", "evaluation"]


@dataclass(frozen=True)
class Position:
    """How far a run is."""

    phase: int = 0
    """Index of the phase in the recipe."""
    epoch: int = 0
    """Whole epochs in this phase."""
    batch: int = 0
    """Batches of this epoch that are done."""
    phase_step: int = 0
    """Updates in this phase."""
    step: int = 0
    """Updates in the whole run."""
    epochs: int = 0
    """Epochs begun and left in the whole run; the shuffle's seed."""

    @property
    def begins_phase(self) -> bool:
        """Nothing of the phase is done yet."""
        return (self.epoch, self.batch, self.phase_step) == (0, 0, 0)

    def wrong(self, recipe: Recipe) -> str:
        """What no run of *recipe* can be at, or an empty string."""
        counts = asdict(self)
        if bad := [name for name, value in counts.items() if value < 0]:
            return f"{counts[bad[0]]} {bad[0]}s"
        if self.phase > len(recipe.phase) or self.phase_step > self.step or self.epoch > self.epochs:
            return f"phase {self.phase + 1}, update {self.phase_step} of it and {self.step} of all"
        if self.phase == len(recipe.phase):
            return "" if self.begins_phase else "updates behind the last phase"
        steps = recipe.phase[self.phase].steps
        return f"update {self.phase_step} of {steps}" if steps is not None and self.phase_step > steps else ""

    def after_batch(self) -> Position:
        return replace(self, batch=self.batch + 1)

    def after_update(self) -> Position:
        return replace(self, phase_step=self.phase_step + 1, step=self.step + 1)

    def after_epoch(self) -> Position:
        """Whole, or cut short by the end of the phase."""
        return replace(self, epoch=self.epoch + 1, batch=0, epochs=self.epochs + 1)

    def after_phase(self) -> Position:
        return Position(phase=self.phase + 1, step=self.step, epochs=self.epochs)


@dataclass
class Progress:
    """What a phase has seen so far, beside the position; saved with it."""

    loss_sum: float = 0.0
    """Σ loss · examples of this epoch."""
    examples: int = 0
    best: float | None = None
    best_on: MeasuredOn | None = None
    """What ``best`` was measured on: a loss on the training data is none on the evaluation data."""
    stale_epochs: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last evaluation."""
    seconds: float = 0.0
    """Time spent in this phase."""

    def __post_init__(self) -> None:
        if self.best is not None and self.best_on is None:  # of an earlier version: as its last epoch was measured
            self.best_on = "evaluation" if self.metrics else "training"
