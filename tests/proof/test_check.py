"""check finds what is wrong: gradients that ONNX Runtime gets wrong once the rules that mend them are taken away."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

import dsd_ort
from dsd_ort.errors import DataError, RecipeError, UnsupportedError
from dsd_ort.graph.differentiate.table import RULES as GRADIENTS
from dsd_ort.graph.differentiate.table import Row
from dsd_ort.graph.legalize.rules import batch_norm
from dsd_ort.graph.legalize.table import RULES
from dsd_ort.proof import Report, gradients
from dsd_ort.rewrite.operators import OPERATORS, Facts
from tests.models import cnn_data, write_cnn


def write(path: Path, text: str, shapes: Mapping[str, tuple[int, ...]], scale: float = 0.4) -> Path:
    """A model in ONNX text with random weights of *shapes*."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    random = np.random.default_rng(0)
    for name, shape in shapes.items():
        value = (
            np.abs(random.standard_normal(shape)) + 0.5 if "var" in name else random.standard_normal(shape)
        ) * scale
        model.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), name))
    path.write_bytes(model.SerializeToString())
    return path


def check(model: Path, **options: object) -> Report:
    return dsd_ort.check(model, isolate=False, threads=1, **options)  # type: ignore[arg-type]


def verdicts(report: Report, mode: str = "inference") -> dict[str, str]:
    return {name: row.verdict for row in report.rows if row.mode == mode for name in row.tensors}


def test_a_sound_model_is_proven_in_inference_and_in_training(tmp_path: Path) -> None:
    report = check(write_cnn(tmp_path / "m.onnx", dropout=True))
    assert report.ok
    names = {"conv1.weight", "bn.weight", "bn.bias", "conv2.weight", "conv2.bias", "fc.weight", "fc.bias"}
    for mode in ("inference", "training"):
        assert verdicts(report, mode) == dict.fromkeys(names, "right")
    assert {row.reference for row in report.rows} == {"float64, ONNX reference"}
    assert max(row.error for row in report.rows) < 1e-4
    assert [line.what for line in report.lines] == ["loss", "dropout, its masks held", "sparse step", "export"]
    assert all(line.passed for line in report.lines)
    assert report.loss == "cross-entropy" and report.output == "scores"


def test_real_data_is_used_where_it_is_given(tmp_path: Path) -> None:
    report = check(write_cnn(tmp_path / "m.onnx"), data=cnn_data(8))
    assert report.ok
    assert report.inputs["image"] == "float32[8, 1, 6, 6]"


CONV = (
    '(float[N, 2, 7, 7] x) => (float[N, 3] y) { a = Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (x, w) '
    "b = Relu (a) c = GlobalAveragePool (b) d = Flatten (c) y = MatMul (d, v) }"
)
SPLIT = (
    "(float[N, 6] x) => (float[N, 3] y) "
    "{ a = MatMul (x, w) p, q = Split <axis = 1> (a) b = Tanh (q) y = MatMul (b, v) }"
)
BATCH_NORM = (
    "(float[N, 2, 5, 5] x) => (float[N, 3] y) { a = Conv (x, w) b = BatchNormalization (a, s, t, mean, var) "
    "c = Tanh (b) d = GlobalAveragePool (c) e = Flatten (d) y = MatMul (e, v) }"
)


@pytest.mark.parametrize(
    ("text", "shapes", "operator", "wrong"),
    [
        (CONV, {"w": (4, 2, 3, 3), "v": (4, 3)}, "Conv", "w"),
    ],
)
@pytest.mark.training_build
def test_a_native_gradient_that_is_wrong_is_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    shapes: dict[str, tuple[int, ...]],
    operator: str,
    wrong: str,
) -> None:
    model = write(tmp_path / "m.onnx", text, shapes)
    assert check(model, builder="ort").ok
    monkeypatch.delitem(RULES, operator)
    monkeypatch.setitem(OPERATORS, operator, OPERATORS.get(operator, Facts())._replace(native=5))
    report = check(model, builder="ort")
    assert not report.ok
    assert verdicts(report)[wrong] == "wrong"
    assert verdicts(report)["v"] == "right"


def test_a_step_that_does_not_run_on_input_that_inference_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gradient of Split that forgets the output that nothing reads has the wrong shape."""
    model = write(tmp_path / "m.onnx", SPLIT, {"w": (6, 8), "v": (4, 3)})
    assert check(model).ok
    wrong = Row(lambda at: next(d for d in at.gradients if d is not None), every_output=True)
    monkeypatch.setitem(GRADIENTS, "Split", wrong)
    report = check(model)
    assert not report.ok
    assert report.lines[0].what == "step" and "invalid dimensions for output: w_grad" in report.lines[0].text


def test_batch_norm_in_the_wrong_mode_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ONNX Runtime's own optimizer has it: by the statistics of the batch where those of the file are meant."""
    shapes = {"w": (4, 2, 3, 3), "s": (4,), "t": (4,), "mean": (4,), "var": (4,), "v": (4, 3)}
    model = write(tmp_path / "m.onnx", BATCH_NORM, shapes)
    assert check(model).ok
    monkeypatch.setitem(RULES, "BatchNormalization", lambda site: batch_norm._by_batch_statistics(site)[0])
    report = check(model)
    assert not report.ok
    assert not report.lines[0].passed
    assert verdicts(report)["w"] == verdicts(report)["v"] == "wrong"
    assert verdicts(report, "training")["w"] == "right"


def test_a_wrong_tensor_is_found_in_a_group(tmp_path: Path) -> None:
    """Groups of several are split until the tensor has a name; the others stay right."""
    names = [f"w{i}" for i in range(12)]
    body = " ".join(f"h{i + 1} = MatMul (h{i}, w{i}) " for i in range(12)).replace("h0", "x").replace("h12", "y")
    model = write(tmp_path / "m.onnx", f"(float[N, 5] x) => (float[N, 5] y) {{ {body} }}", dict.fromkeys(names, (5, 5)))
    assert check(model, seconds=1e-3).ok

    real = gradients.check

    def spoiled(point: gradients.Point, *others: object, **options: object) -> object:
        spoil = {**point.gradients, "w7": point.gradients["w7"] * 1.2}
        return real(
            gradients.Point(point.inputs, point.loss, spoil, point.noise, point.mode),
            *others,  # type: ignore[arg-type]
            seconds=10.0,
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradients, "check", spoiled)
        patch.setattr(gradients, "groups", lambda slices, *_: [gradients.Group("all", tuple(slices))] if slices else [])
        report = check(model)
    assert [row.group for row in report.wrong] == ["w7"]
    assert 0.02 < report.wrong[0].error < 0.8, "a fifth too much, along random directions"


def test_a_gradient_that_lacks_a_part_is_found(tmp_path: Path) -> None:
    """Along the gradient itself nothing would be seen of it: the random directions do."""
    model = write(tmp_path / "m.onnx", "(float[N, 6] x) => (float[N, 3] y) { y = MatMul (x, w) }", {"w": (6, 3)})
    real = gradients.check

    def spoiled(point: gradients.Point, *others: object, **options: object) -> object:
        part = point.gradients["w"].copy()
        part[0] = 0
        spoil = {"w": part}
        changed = gradients.Point(point.inputs, point.loss, spoil, point.noise, point.mode)
        return real(changed, *others, seconds=10.0)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradients, "check", spoiled)
        assert [row.group for row in check(model).wrong] == ["w"]


def test_a_loss_that_curves_much_along_its_gradient_is_looked_at_closely(tmp_path: Path) -> None:
    text = (
        "(float[N, 6] x) => (float[N, 3] y) <float k = {10000.0}> "
        "{ a = MatMul (x, w) b = Dropout (a) c = Mul (b, k) d = Sin (c) y = MatMul (d, v) }"
    )
    report = check(write(tmp_path / "m.onnx", text, {"w": (6, 5), "v": (5, 3)}))
    (slope,) = [line for line in report.lines if line.what.startswith("dropout")]
    assert slope.passed, slope


def test_a_kink_is_no_error(tmp_path: Path) -> None:
    """With a bias of -x·w every unit stands exactly at the kink of its Relu."""
    text = "(float[N, 4] x) => (float[N, 3] y) { a = MatMul (x, w) b = Add (a, c) d = Relu (b) y = MatMul (d, v) }"
    model = onnx.load(write(tmp_path / "m.onnx", text, {"w": (4, 4), "v": (4, 3)}))
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.zeros((4, 4), np.float32), "w"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(4, np.float32), "c"))
    onnx.save(model, tmp_path / "m.onnx")
    report = check(tmp_path / "m.onnx")
    assert not report.wrong
    assert verdicts(report)["w"] in ("right", "zero")


def test_float32_says_undecided_rather_than_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a reference in float64, right gradients are not called wrong, and the report says what it rests on."""
    monkeypatch.setattr("dsd_ort.proof.reference.InNumPy", _fails)
    report = check(write_cnn(tmp_path / "m.onnx"))
    assert not [row for row in report.wrong if row.mode == "inference"]
    assert {row.reference for row in report.rows} == {"float32, ONNX Runtime"}
    assert any("no reference in float64" in note for note in report.notes)
    assert any(line.what == "batch norm in training mode" and line.passed for line in report.lines)
    assert verdicts(report)["fc.weight"] == "right"


@pytest.mark.training_build
def test_float32_still_finds_what_is_quite_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write(tmp_path / "m.onnx", CONV, {"w": (4, 2, 3, 3), "v": (4, 3)})
    monkeypatch.setattr("dsd_ort.proof.reference.InNumPy", _fails)
    monkeypatch.delitem(RULES, "Conv")
    report = check(model, builder="ort")
    assert [row.group for row in report.wrong] == ["w"]


def _fails(*arguments: object, **options: object) -> object:
    raise RuntimeError("no such operator")


def test_a_model_that_cannot_be_trained_is_refused_with_all_reasons(tmp_path: Path) -> None:
    text = "(float[3, 3] x) => (float[3, 3] y) { a = MatMul (x, w) b = Magic (a) c = Wand (b) y = MatMul (c, v) }"
    model = write(tmp_path / "m.onnx", text, {"w": (3, 3), "v": (3, 3)})
    with pytest.raises(UnsupportedError) as refused:
        check(model)
    assert [cause.what.split()[2] for cause in refused.value.causes] == ["Magic", "Wand"]
    assert "Magic" in str(refused.value) and "Wand" in str(refused.value)


def test_options_that_contradict_each_other(tmp_path: Path) -> None:
    model = write_cnn(tmp_path / "m.onnx")
    with pytest.raises(RecipeError, match="beside a recipe"):
        check(model, recipe=dsd_ort.default_recipe(), loss="mse")
    with pytest.raises(DataError, match="isolate=False"):
        dsd_ort.check(model, data=cnn_data(8))
    with pytest.raises(RecipeError, match="no output 'score'"):
        check(model, output="score")
    with pytest.raises(DataError, match="no input 'img'"):
        check(model, shapes={"img": (1, 1, 6, 6)})
    with pytest.raises(DataError, match="does not fit the input 'image'"):
        check(model, shapes={"image": (1, 1, 7, 6)})
