"""What is added at places of an index, by one thread and by several: the oracles are NumPy's ``add.at`` and ONNX's."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from dsd_ort import runtime
from dsd_ort.device.lower import lower
from dsd_ort.runtime.device import cores
from tests.session import TRAINING_BUILD, runnable

HEADER = '<ir_version: 8, opset_import: ["": 18, "com.microsoft": 1]>'
GATHERED = {
    # shape of X, axis, shape of the indices
    "rows": ((7, 5), 0, (4, 3)),
    "numbers": ((7,), 0, (9,)),
    "the middle": ((3, 5, 2), 1, (2, 4)),
    "the last, from behind": ((3, 5), -1, (6,)),
    "one": ((3, 5, 2), 1, ()),
}
SCATTERED = {
    # shape of X, shape of the indices
    "rows": ((6, 3), (8, 1)),
    "numbers": ((6,), (2, 5, 1)),
    "of two axes": ((4, 3, 2), (9, 2)),
    "of all": ((4, 3), (9, 2)),
}


def model_of(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(f"{HEADER}\n{text}"))


def run(model: ir.Model, feeds: dict[str, np.ndarray], threads: int = 1, times: int = 1) -> list[np.ndarray]:
    session = runtime.session(runnable(model), runtime.session_options(threads))
    return [session.run(None, feeds)[0] for _ in range(times)]


def of(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]" if shape else ""


def gather_gradient(shape: tuple[int, ...], axis: int, places: tuple[int, ...], whole: str = "int64") -> ir.Model:
    dy = (*shape[: axis % len(shape)], *places, *shape[axis % len(shape) + 1 :])
    return model_of(f"""agraph ({whole}{of(places)} i, float{of(dy)} dy) => (float{of(shape)} dx)
        {{ s = Constant<value_ints={list(shape)}>() dx = com.microsoft.GatherGrad<axis={axis}>(s, i, dy) }}""")


@pytest.mark.parametrize(("shape", "axis", "places"), GATHERED.values(), ids=GATHERED)
@pytest.mark.parametrize("whole", ["int64", "int32"])
def test_gradients_of_what_was_gathered(shape: tuple[int, ...], axis: int, places: tuple[int, ...], whole: str) -> None:
    rng, model = np.random.default_rng(0), gather_gradient(shape, axis, places, whole)
    assert lower(model) == ("GatherGrad → GatherElementsGrad (1×)",)
    count, at = shape[axis], axis % len(shape)
    i = rng.integers(-count, count, places).astype(whole)
    dy = rng.standard_normal((*shape[:at], *places, *shape[at + 1 :])).astype(np.float32)
    expected = np.zeros(shape)
    rows = dy.reshape(*shape[:at], -1, *shape[at + 1 :])
    np.add.at(np.moveaxis(expected, at, 0), i.reshape(-1), np.moveaxis(rows, at, 0))
    (got,) = run(model, {"i": i, "dy": dy})
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_several_threads_give_the_bits_of_one() -> None:
    """As a run that goes on from its checkpoint has to; the training build's GatherGrad gives others in each run."""
    rng, model = np.random.default_rng(0), gather_gradient((64, 256), 0, (2048,))
    feeds = {"i": rng.integers(0, 64, 2048), "dy": rng.standard_normal((2048, 256)).astype(np.float32)}
    if TRAINING_BUILD and cores() > 1:
        assert len({each.tobytes() for each in run(model, feeds, threads=4, times=20)}) > 1, "it is no longer needed"
    lower(model)
    found = run(model, feeds) + run(model, feeds, threads=4, times=20)
    assert len({each.tobytes() for each in found}) == 1


@pytest.mark.parametrize(("shape", "places"), SCATTERED.values(), ids=SCATTERED)
@pytest.mark.parametrize("reduction", ["add", "mul", "min", "max"])
def test_scattering_is_onnxs(shape: tuple[int, ...], places: tuple[int, ...], reduction: str) -> None:
    rng, depth = np.random.default_rng(0), places[-1]
    updates = (*places[:-1], *shape[depth:])
    model = model_of(f"""agraph (float{of(shape)} x, int64{of(places)} i, float{of(updates)} u) => (float{of(shape)} y)
        {{ y = ScatterND<reduction="{reduction}">(x, i, u) }}""")
    whole = ir.to_proto(model)
    assert lower(model) == ("ScatterND with a reduction → ScatterElements (1×)",)
    i = np.stack([rng.integers(-n, n, places[:-1]) for n in shape[:depth]], axis=-1)
    feeds = {"x": rng.standard_normal(shape), "i": i, "u": rng.standard_normal(updates)}
    feeds = {name: array if name == "i" else array.astype(np.float32) for name, array in feeds.items()}
    (expected,) = ReferenceEvaluator(whole).run(None, feeds)
    (got,) = run(model, feeds)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_of_several_threads_none_loses_what_another_adds() -> None:
    """ONNX Runtime's ScatterND adds without a lock."""
    rng = np.random.default_rng(0)
    model = model_of("""agraph (float[64, 256] x, int64[2048, 1] i, float[2048, 256] u) => (float[64, 256] y)
        { y = ScatterND<reduction="add">(x, i, u) }""")
    lower(model)
    feeds = {
        "x": np.zeros((64, 256), np.float32),
        "i": rng.integers(0, 64, (2048, 1)),
        "u": rng.standard_normal((2048, 256)).astype(np.float32),
    }
    expected = np.zeros((64, 256))
    np.add.at(expected, feeds["i"][:, 0], feeds["u"])
    for got in run(model, feeds, threads=4, times=20):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("shape", "wrong"), [((6,), (6,)), ((6,), (-7,)), ((4, 3), (1, 3)), ((4, 3), (2, -4))])
def test_an_index_that_is_out_of_range_stays_an_error(shape: tuple[int, ...], wrong: tuple[int, ...]) -> None:
    """Also along an inner axis, where it would be a place in the next row."""
    model = model_of(f"""agraph (float{of(shape)} x, int64[2, {len(shape)}] i, float[2] u) => (float{of(shape)} y)
        {{ y = ScatterND<reduction="add">(x, i, u) }}""")
    lower(model)
    feeds = {"x": np.zeros(shape, np.float32), "u": np.ones(2, np.float32)}
    run(model, feeds | {"i": np.array([(0,) * len(shape), tuple(n - 1 for n in shape)])})
    with pytest.raises(Exception, match="out of"):
        run(model, feeds | {"i": np.array([(0,) * len(shape), wrong])})


def test_what_replaces_stays_as_it_is() -> None:
    model = model_of("""agraph (float[6] x, int64[2, 1] i, float[2] u) => (float[6] y) { y = ScatterND(x, i, u) }""")
    assert lower(model) == () and [node.op_type for node in model.graph] == ["ScatterND"]


def test_bodies_have_the_form_too() -> None:
    model = model_of("""agraph (int64[5] i, float[3, 5] dy) => (float[3, 4] y)
        { y = Scan <num_scan_inputs = 1, body = row (float[5] d) => (float[4] r)
            { s = Constant<value_ints=[4]>() r = com.microsoft.GatherGrad(s, i, d) }> (dy) }""")
    assert lower(model) == ("GatherGrad → GatherElementsGrad (1×)",)
    i, dy = np.array([0, 3, 0, 1, -1]), np.arange(15, dtype=np.float32).reshape(3, 5)
    (got,) = run(model, {"i": i, "dy": dy})
    expected = np.zeros((3, 4))
    np.add.at(expected, (slice(None), i), dy)
    np.testing.assert_array_equal(got, expected)
