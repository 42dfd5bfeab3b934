"""The arms of an experiment: what DSD is measured beside, each a recipe and where its weights are taken from.

An arm takes the epoch of its last phase that is best on the selection data; one that stops early, that of any phase.
Arms of one ``run`` are read from one training.

All have the recipe's learning rates but two.  Weights drawn anew learn at those of a first training.  And the last
phase without suspects has the sparse phase's, where that is higher: a low rate keeps a dense network from learning
wrong labels again, and with them gone it need not.

What ships sparse, ``one-shot`` and ``gradual``, is sparse from the recipe's first sparse phase to its end, at once or
little by little.  ``acdc`` has the phases from there on in turn, CYCLES times, each as much shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from dsd_ort.errors import RecipeError, nearest
from dsd_ort.recipe import WITH_LABELS, Phase, Recipe, Rise

DENSE_ONLY = "dense-only"
DSD = "dsd"
ENDS_SPARSE = ("one-shot", "gradual")
"""Arms that end with a sparse network."""
EVERY = 20
"""Updates from one mask of ``gradual`` to the next: people's data are often small."""
CYCLES = 4
"""How often AC/DC goes through the recipe's sparse and dense phases."""
FRESH_RATE = 10.0
"""Times the rates of a recipe that begins sparse, which are about a tenth of those that trained the model."""
DECAY, LEAST_DECAY = 10.0, 1e-3
"""The stronger weight decay is the recipe's times this, and at least that."""


@dataclass(frozen=True)
class Arm:
    """One way to spend the budget."""

    name: str
    """As in file names: ``dsd-0.9``."""
    title: str
    """For people: ``DSD 90 %``."""
    run: str
    """The training whose weights it takes."""
    recipe: Recipe
    """Of that training, with the base seed."""
    sparsity: float | None = None
    any_phase: bool = False
    """Whether the best epoch of all phases counts, not of the last."""
    fresh: bool = False
    """Whether it begins with weights drawn anew."""

    @property
    def prunes(self) -> bool:
        return any(phase.kind == "sparse" for phase in self.recipe.phase)

    def of_seed(self, seed: int) -> Recipe:
        """The recipe of the *seed*-th repetition, from 0; what is random is the same in all arms."""
        return msgspec.structs.replace(self.recipe, seed=self.recipe.seed + seed)


def _dense_only(recipe: Recipe, _: Sequence[float]) -> Iterator[Arm]:
    yield Arm(DENSE_ONLY, "dense only", DENSE_ONLY, _dense(recipe))


def _dense(recipe: Recipe) -> Recipe:
    """Without pruning, and without what is said of it."""
    prune = msgspec.structs.replace(recipe.prune, alive=False)
    return msgspec.structs.replace(recipe.dense_only(), prune=prune)


def _early_stopping(recipe: Recipe, _: Sequence[float]) -> Iterator[Arm]:
    yield Arm("early-stopping", "dense only, stopped early", DENSE_ONLY, _dense(recipe), any_phase=True)


def _weight_decay(recipe: Recipe, _: Sequence[float]) -> Iterator[Arm]:
    decay = max(DECAY * recipe.optimizer.weight_decay, LEAST_DECAY)
    optimizer = msgspec.structs.replace(recipe.optimizer, weight_decay=decay)
    dense = msgspec.structs.replace(_dense(recipe), optimizer=optimizer)
    yield Arm("weight-decay", f"dense only, weight decay {decay:g}", "weight-decay", dense)


def _dsd(recipe: Recipe, sparsities: Sequence[float]) -> Iterator[Arm]:
    for sparsity, name, percent in _named(recipe, sparsities):
        yield Arm(f"{DSD}{name}", f"DSD{percent}", f"{DSD}{name}", at(recipe, sparsity), sparsity)


def _one_shot(recipe: Recipe, sparsities: Sequence[float]) -> Iterator[Arm]:
    for sparsity, name, percent in _named(recipe, sparsities):
        run = f"one-shot{name}"
        yield Arm(run, f"pruned at once{percent}", run, _sparse_from_there(at(recipe, sparsity)), sparsity)


def _gradual(recipe: Recipe, sparsities: Sequence[float]) -> Iterator[Arm]:
    for sparsity, name, percent in _named(recipe, sparsities):
        sparse = _sparse_from_there(at(recipe, sparsity))
        number = next(i for i, phase in enumerate(sparse.phase) if phase.kind == "sparse")
        rise = Rise(final=sparse.phase[number].final_sparsity or 0.0, every=EVERY)
        phases = (*sparse.phase[:number], msgspec.structs.replace(sparse.phase[number], sparsity=rise))
        rising = msgspec.structs.replace(sparse, phase=(*phases, *sparse.phase[number + 1 :]))
        run = f"gradual{name}"
        yield Arm(run, f"pruned gradually{percent}", run, rising, sparsity)


def _sparse_from_there(recipe: Recipe) -> Recipe:
    """With the sparsity of its last sparse phase from the first one on to its end."""
    first = next(i for i, phase in enumerate(recipe.phase) if phase.kind == "sparse")
    sparsity = [phase.final_sparsity for phase in recipe.phase if phase.kind == "sparse"][-1]
    changes: dict[str, Any] = {"kind": "sparse", "sparsity": sparsity, "drop_suspects": False}
    phases = (msgspec.structs.replace(phase, **changes) for phase in recipe.phase[first:])
    return msgspec.structs.replace(recipe, phase=(*recipe.phase[:first], *phases))


def _acdc(recipe: Recipe, sparsities: Sequence[float]) -> Iterator[Arm]:
    first = next(i for i, phase in enumerate(recipe.phase) if phase.kind == "sparse")
    if all(phase.kind == "sparse" for phase in recipe.phase[first:]):
        return
    for sparsity, name, percent in _named(recipe, sparsities):
        phases = at(recipe, sparsity).phase
        cycle = tuple(_shorter(phase, CYCLES) for phase in phases[first:])
        turns = msgspec.structs.replace(recipe, phase=(*phases[:first], *CYCLES * cycle))
        yield Arm(f"acdc{name}", f"AC/DC{percent}", f"acdc{name}", turns, sparsity)


def _shorter(phase: Phase, times: int) -> Phase:
    length: dict[str, Any] = {"steps": None if phase.steps is None else max(1, round(phase.steps / times))}
    length["epochs"] = None if phase.epochs is None else phase.epochs / times
    return msgspec.structs.replace(phase, **length, drop_suspects=False)


def _drop_suspects(recipe: Recipe, sparsities: Sequence[float]) -> Iterator[Arm]:
    if not can_drop(recipe):
        return
    *before, last = recipe.phase
    sparse = [phase for phase in before if phase.kind == "sparse"][-1]
    faster = max((last.schedule, sparse.schedule), key=lambda schedule: schedule.initial)
    last = msgspec.structs.replace(last, drop_suspects=True, learning_rate=faster)
    dropping = msgspec.structs.replace(recipe, phase=(*before, last))
    for sparsity, name, percent in _named(recipe, sparsities):
        run = f"drop-suspects{name}"
        yield Arm(run, f"DSD{percent}, suspects dropped", run, at(dropping, sparsity), sparsity)


def _fresh(recipe: Recipe, _: Sequence[float]) -> Iterator[Arm]:
    factor = FRESH_RATE if recipe.phase[0].kind == "sparse" else 1.0
    phases = tuple(_faster(phase, factor) for phase in recipe.dense_only().phase)
    dense = msgspec.structs.replace(_dense(recipe), phase=phases)
    dense = msgspec.structs.replace(dense, prune=msgspec.structs.replace(dense.prune, keep_zeros=False))
    yield Arm("fresh", "weights drawn anew, stopped early", "fresh", dense, any_phase=True, fresh=True)


KINDS: dict[str, Callable[[Recipe, Sequence[float]], Iterator[Arm]]] = {
    DENSE_ONLY: _dense_only,
    "early-stopping": _early_stopping,
    "weight-decay": _weight_decay,
    DSD: _dsd,
    "acdc": _acdc,
    "gradual": _gradual,
    "one-shot": _one_shot,
    "drop-suspects": _drop_suspects,
    "fresh": _fresh,
}
"""In the order of the table."""
USUAL = tuple(kind for kind in KINDS if kind not in ("acdc", "fresh", *ENDS_SPARSE))
"""Those of an experiment that does not say."""


def arms(recipe: Recipe, kinds: Sequence[str], sparsities: Sequence[float]) -> list[Arm]:
    """Those of *kinds*, in the table's order; DSD at each of *sparsities*, or as the recipe has it where there is none.

    Raises:
        RecipeError: a kind that is none; no sparse phase; a sparsity twice or out of its range.
    """
    for kind in kinds:
        if kind not in KINDS:
            fix = nearest(kind, KINDS) or f"give some of {', '.join(KINDS)}"
            raise RecipeError(f"there is no arm {kind!r} of an experiment", fix=fix)
    require_sparse_phase(recipe)
    for sparsity in sparsities:
        if not 0 < sparsity < 1:
            raise RecipeError(f"a sparsity of {sparsity:g} is outside (0, 1)", fix="give the share to prune, as 0.9")
        if [f"{other:g}" for other in sparsities].count(f"{sparsity:g}") > 1:
            raise RecipeError(f"the sparsity {sparsity:g} is given twice", fix="give each once")
    found = [arm for kind, make in KINDS.items() if kind in kinds for arm in make(recipe, sparsities)]
    if not found:
        raise RecipeError(
            f"no arm is left of {', '.join(kinds)}",
            fix="suspects are dropped, and AC/DC goes on, by a dense phase behind a sparse one; give more arms",
        )
    return found


def require_sparse_phase(recipe: Recipe) -> None:
    """Raises RecipeError where *recipe* has none."""
    if all(phase.kind == "dense" for phase in recipe.phase):
        raise RecipeError(
            "the recipe has no sparse phase, so there is nothing to compare dense only with",
            fix='give a phase kind = "sparse" and a sparsity, or train it alone: dsd-ort prepare, dsd-ort train',
        )


def can_drop(recipe: Recipe) -> bool:
    """Whether the last phase may drop suspects: it is dense, behind a sparse one, and the loss is one of labels."""
    kinds = [phase.kind for phase in recipe.phase]
    return kinds[-1] == "dense" and "sparse" in kinds and recipe.losses[0].name in WITH_LABELS


def at(recipe: Recipe, sparsity: float | None) -> Recipe:
    """*recipe* with this sparsity in its sparse phases; as it is where it is None.

    Raises:
        RecipeError: its pattern says another one.
    """
    return recipe if sparsity is None else recipe.at_sparsity(sparsity)


def _named(recipe: Recipe, sparsities: Sequence[float]) -> Iterator[tuple[float | None, str, str]]:
    """Each sparsity with its ending of names and titles; one alone, None, where there are none."""
    alive = "-alive" if recipe.prune.alive else ""
    if not sparsities:
        yield None, alive, ""
    for sparsity in sparsities:
        yield sparsity, f"-{sparsity:g}{alive}", f" {100 * sparsity:g} %"


def _faster(phase: Phase, factor: float) -> Phase:
    """*phase* at *factor* times its rates."""
    schedule = phase.schedule
    rates: dict[str, Any] = {"initial": factor * schedule.initial, "final": factor * schedule.final}
    return msgspec.structs.replace(phase, learning_rate=msgspec.structs.replace(schedule, **rates))
