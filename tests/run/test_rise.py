"""Sparsities that rise within a phase, and phases that are repeated: counts, zeros, and resuming to the bit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

import dsd_ort
from dsd_ort.data import open_data
from dsd_ort.errors import DataError, RecipeError, Stopped
from dsd_ort.graph.program import open_program
from dsd_ort.recipe import Phase, Rise
from dsd_ort.run.engine import Engine
from dsd_ort.run.examples import Examples
from dsd_ort.run.execution import Execution
from dsd_ort.run.journal import Journal, Silent, read
from dsd_ort.run.keeping import CHECKPOINT
from dsd_ort.run.phases import Trainer
from dsd_ort.run.ranks import Team
from dsd_ort.run.schedule import SHARES, sparsity
from tests import cases
from tests.models import cnn_data, write_cnn
from tests.run.test_kill import wait_until
from tests.run.test_ranks import by_ranks

DATA, HELD_OUT = cnn_data(64), cnn_data(20, seed=2)
RISES = st.builds(
    Rise,
    schedule=st.sampled_from(list(SHARES)),
    initial=st.floats(0, 0.5),
    final=st.floats(0.5, 0.99),
    every=st.integers(1, 30),
    stairs=st.integers(1, 6),
    over=st.floats(0.01, 1),
)


def phase(rise: Rise | float) -> Phase:
    return Phase(kind="sparse", steps=1, sparsity=rise, learning_rate=0.1)


@given(RISES, st.integers(1, 120))
def test_a_sparsity_rises_from_its_beginning_to_its_end_whatever_the_length(rise: Rise, steps: int) -> None:
    values = [sparsity(phase(rise), step, steps=steps) for step in range(steps)]
    assert values == sorted(values)
    assert values[-1] == rise.final
    assert values[0] == (rise.initial if steps > 1 and int(rise.over * steps) else rise.final)
    length = min(int(rise.over * steps), steps - 1)
    changes = [step for step in range(1, steps) if values[step] != values[step - 1]]
    assert all(step % rise.every == 0 or step == length for step in changes)
    assert all(step <= length for step in changes)


@pytest.mark.parametrize(("schedule", "middle"), [("linear", 0.45), ("cubic", 0.9 * (1 - 0.5**3)), ("steps", 0.45)])
def test_in_the_middle_of_the_rise(schedule: Any, middle: float) -> None:
    rise = Rise(schedule=schedule, final=0.9, every=1, over=0.5)
    assert sparsity(phase(rise), 25, steps=100) == pytest.approx(middle)
    assert sparsity(phase(rise), 50, steps=100) == sparsity(phase(0.9), 3, steps=100) == 0.9


def recipe(*phases: dict[str, Any], **changes: Any) -> dsd_ort.Recipe:
    return dsd_ort.Recipe.from_dict(
        {"batch_size": 8, "optimizer": {"momentum": 0.9, "weight_decay": 1e-3}, "phase": list(phases), **changes}
    )


RISING: dict[str, Any] = {"kind": "sparse", "epochs": 4, "learning_rate": 0.05}
RISING["sparsity"] = {"initial": 0.1, "final": 0.8, "every": 3, "schedule": "cubic"}
DENSE: dict[str, Any] = {"kind": "dense", "epochs": 1, "learning_rate": 0.05}
KINDS: dict[str, dict[str, Any]] = {
    "unstructured": {},
    "global": {"scope": "global"},
    "channels": {"pattern": "channels"},
    "wanda": {"criterion": "wanda", "calibration": 16},
    "random": {"criterion": "random"},
    "keep zeros": {"keep_zeros": True},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of whose weights some are zero already."""
    path = write_cnn(tmp_path_factory.mktemp("model") / "model.onnx", dropout=True)
    proto = onnx.load(path)
    for tensor in proto.graph.initializer:
        if tensor.name == "fc.weight":
            values = onnx.numpy_helper.to_array(tensor).copy()
            values[0, :2] = 0
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    path.write_bytes(proto.SerializeToString(deterministic=True))
    return path


def ends(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / "phases").glob("*.safetensors"))}


def weights(run: Path, name: str) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(run / "phases" / f"{name}.safetensors")


@pytest.mark.parametrize("prune", KINDS.values(), ids=KINDS)
def test_law_3_and_6_masks_follow_and_a_run_stopped_at_any_update_ends_with_the_same_bytes(
    model: Path, tmp_path: Path, prune: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = recipe(RISING, DENSE, {**RISING, "sparsity": 0.5}, prune=prune)
    dsd_ort.prepare(model, tmp_path / "whole", wanted)
    dsd_ort.prepare(model, tmp_path / "parts", wanted)
    update, zeros = Engine.update, []

    def watched(self: Engine, rate: float, step: int) -> None:
        update(self, rate, step)
        pruned = self.arena.masks == 0
        if 32 < step <= 40:  # the dense phase
            return
        assert not self.arena.weights[: pruned.size][pruned].any(), "law 3"
        zeros.append(int(pruned.sum()))

    monkeypatch.setattr(Engine, "update", watched)
    dsd_ort.train(tmp_path / "whole", DATA, eval_data=HELD_OUT, threads=1)
    rising = zeros[:32]
    assert rising == sorted(rising) and len(set(rising)) > 3
    stops, parts = iter(range(10**6)), tmp_path / "parts"
    while not any(event["event"] == "end" for event in read(parts)):
        with contextlib.suppress(Stopped):
            dsd_ort.train(
                parts,
                DATA,
                eval_data=HELD_OUT,
                threads=1,
                resume=(parts / CHECKPOINT).exists(),
                stop=lambda: next(stops) % 5 == 4,
            )
    assert ends(tmp_path / "parts") == ends(tmp_path / "whole")
    assert [e for e in read(tmp_path / "parts") if e["event"] == "masks"]


def without_time(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in e.items() if k not in ("time", "seconds", "examples_per_second", "waiting")} for e in events
    ]


@pytest.mark.parametrize("prune", [{}, {"criterion": "wanda", "calibration": 16}], ids=["magnitude", "wanda"])
def test_two_ranks_end_with_the_bytes_of_one_process(tmp_path: Path, prune: dict[str, Any]) -> None:
    """As two threads, which share ONNX Runtime's generator: so without dropout."""
    model = write_cnn(tmp_path / "model.onnx")
    wanted = recipe(RISING, prune=prune, optimizer={"accumulate": 2})
    dsd_ort.prepare(model, tmp_path / "alone", wanted)
    dsd_ort.train(tmp_path / "alone", DATA, threads=1)
    dsd_ort.prepare(model, tmp_path / "ranks", wanted)

    def train(ranks: Team) -> None:
        program = open_program(tmp_path / "ranks")
        fields = [*program.manifest.inputs, *program.manifest.labels]
        examples = Examples(program, open_data(DATA, fields, wanted.data))
        with closing(Silent(program.folder) if ranks.rank else Journal(program.folder)) as journal:
            Trainer(program, examples, None, journal, execution=Execution(threads=1), ranks=ranks).run()

    assert by_ranks(2, train) == [None, None]
    assert ends(tmp_path / "ranks") == ends(tmp_path / "alone")


def test_killed_in_the_middle_of_a_rise_it_ends_with_the_same_bytes(model: Path, tmp_path: Path) -> None:
    wanted = recipe({**RISING, "epochs": 6, "sparsity": {**RISING["sparsity"], "every": 7}})
    np.savez(tmp_path / "train.npz", **cnn_data(1000))

    def start(run: str, *options: str) -> subprocess.Popen[bytes]:
        if not (tmp_path / run).exists():
            dsd_ort.prepare(model, tmp_path / run, wanted)
        command = [sys.executable, "-m", "dsd_ort", "train", str(tmp_path / run), "--data", str(tmp_path / "train.npz")]
        command += ["--threads", "1", "--checkpoint-seconds", "0.01", *options]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment)

    assert start("whole").wait() == 0
    process = start("killed")
    wait_until(process, tmp_path / "killed", lambda events: sum(e["event"] == "masks" for e in events) > 20)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert start("killed", "--resume").wait() == 0
    assert ends(tmp_path / "killed") == ends(tmp_path / "whole")
    each = (without_time([e for e in read(tmp_path / run) if e["event"] == "masks"]) for run in ("killed", "whole"))
    assert next(each) == next(each)


def test_at_its_end_it_has_exactly_what_it_rises_to_and_only_such_an_epoch_is_the_best(
    model: Path, tmp_path: Path
) -> None:
    dsd_ort.prepare(model, tmp_path / "run", recipe({**RISING, "patience": 1}))
    dsd_ort.train(tmp_path / "run", DATA, eval_data=HELD_OUT, threads=1)
    for name in ("1-sparse", "1-sparse.best"):
        found = weights(tmp_path / "run", name)
        for weight in ("conv2.weight", "fc.weight"):
            value = found[f"weights/{weight}"]
            assert np.count_nonzero(value == 0) == round(value.size * 0.8)
    epochs = [event for event in read(tmp_path / "run") if event["event"] == "epoch"]
    assert len(epochs) == 4, "patience begins with the final sparsity"
    assert [event["best"] for event in epochs[:2]] == [False, False]


def test_accumulated_gradients_are_of_one_mask(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[bytes] = []
    queue = Engine.queue

    def watched(self: Engine, *arguments: Any, **options: Any) -> None:
        masks.append(self.arena.masks.tobytes())
        queue(self, *arguments, **options)

    monkeypatch.setattr(Engine, "queue", watched)
    rise = {**RISING["sparsity"], "every": 1}
    dsd_ort.prepare(model, tmp_path / "run", recipe({**RISING, "sparsity": rise}, optimizer={"accumulate": 2}))
    dsd_ort.train(tmp_path / "run", DATA, threads=1)
    assert all(masks[i] == masks[i + 1] for i in range(0, len(masks), 2))
    assert len(set(masks)) > 5


def test_repeated_phases_train_as_the_phases_written_out(model: Path, tmp_path: Path) -> None:
    sparse = {**RISING, "epochs": 1, "sparsity": 0.5}
    dsd_ort.prepare(model, tmp_path / "repeated", recipe({"repeat": 2, "phase": [sparse, DENSE]}))
    dsd_ort.prepare(model, tmp_path / "written", recipe(sparse, DENSE, sparse, DENSE))
    for run in ("repeated", "written"):
        dsd_ort.train(tmp_path / run, DATA, threads=1)
    assert ends(tmp_path / "repeated") == ends(tmp_path / "written")
    assert [name for name in ends(tmp_path / "repeated") if ".best" not in name] == [
        "1-sparse.safetensors",
        "2-dense.safetensors",
        "3-sparse.safetensors",
        "4-dense.safetensors",
    ]


def test_wanda_prunes_what_meets_little(model: Path, tmp_path: Path) -> None:
    wanted = recipe({**RISING, "epochs": 1, "sparsity": 0.5}, prune={"criterion": "wanda"})
    dsd_ort.prepare(model, tmp_path / "run", wanted)
    dsd_ort.prepare(model, tmp_path / "magnitude", recipe({**RISING, "epochs": 1, "sparsity": 0.5}))
    for run in ("run", "magnitude"):
        dsd_ort.train(tmp_path / run, DATA, threads=1)
    pruned, other = (weights(tmp_path / run, "1-sparse")["weights/conv2.weight"] == 0 for run in ("run", "magnitude"))
    assert pruned.sum() == other.sum() and (pruned != other).any()


def stream(epoch: int, seed: int) -> Any:
    yield from ({"image": DATA["image"][:8], "label": DATA["label"][:8]} for _ in range(8))


def test_wanda_of_a_stream_is_refused_before_the_first_step(model: Path, tmp_path: Path) -> None:
    wanted = recipe({**RISING, "epochs": None, "steps": 4, "sparsity": 0.5}, prune={"criterion": "wanda"})
    dsd_ort.prepare(model, tmp_path / "run", wanted)
    with pytest.raises(DataError, match="no numbers"):
        dsd_ort.train(tmp_path / "run", stream, threads=1)
    assert not (tmp_path / "run" / CHECKPOINT).exists()


def test_wanda_of_a_weight_that_meets_nobody_knows_what_is_refused(tmp_path: Path) -> None:
    text = (
        "(float[3, N, 4] x) => (float[N, 1, 6] y) { a, b = RNN <hidden_size = 6> (x, W, R) "
        "y = Transpose <perm = [1, 0, 2]> (b) }"
    )
    path = cases.write(tmp_path / "m.onnx", text, {"W": cases.drawn(1, 6, 4), "R": cases.drawn(1, 6, 6)})
    wanted = recipe({**RISING, "sparsity": 0.5}, prune={"criterion": "wanda"}, loss={"name": "mse"})
    with pytest.raises(RecipeError, match="does not know the input that 'R' meets"):
        dsd_ort.prepare(path, tmp_path / "run", wanted)


def test_keep_zeros_of_a_dense_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no weight of the file that could be pruned is zero"):
        dsd_ort.prepare(write_cnn(tmp_path / "m.onnx"), tmp_path / "run", recipe(RISING, prune={"keep_zeros": True}))


def test_the_journal_says_where_a_sparsity_begins_and_goes(model: Path, tmp_path: Path) -> None:
    dsd_ort.prepare(model, tmp_path / "run", recipe(RISING))
    dsd_ort.train(tmp_path / "run", DATA, threads=1)
    events = read(tmp_path / "run")
    (begun,) = [event for event in events if event["event"] == "phase"]
    assert (begun["sparsity_from"], begun["sparsity"]) == (0.1, 0.8)
    masks = [event["sparsity"] for event in events if event["event"] == "masks"]
    assert masks == sorted(masks) and masks[-1] == 0.8
