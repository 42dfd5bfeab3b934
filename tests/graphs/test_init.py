"""Initial weights have the papers' distributions."""

import numpy as np
import pytest

from graphs import init
from graphs.digits import DigitsCnn
from graphs.layers import Conv, Linear

KERNEL = (64, 32, 5, 5)  # fan_in 800, fan_out 1600
MATRIX = (200, 500)


def rng() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(0))


@pytest.mark.parametrize(("shape", "fan_in"), [(KERNEL, 800), (MATRIX, 500)])
def test_lecun_is_uniform_with_variance_one_over_fan_in(shape: tuple[int, ...], fan_in: int) -> None:
    values = init.lecun(rng(), shape, shape)
    assert values.dtype == np.float32
    assert values.var() == pytest.approx(1 / fan_in, rel=0.02)
    assert 0.99 * np.sqrt(3 / fan_in) < np.abs(values).max() <= np.sqrt(3 / fan_in)


def test_he_is_normal_with_variance_two_over_fan_out() -> None:
    values = init.he(rng(), KERNEL, KERNEL)
    assert values.dtype == np.float32
    assert values.std() == pytest.approx(np.sqrt(2 / 1600), rel=0.02)
    within = [np.mean(np.abs(values) < k * np.sqrt(2 / 1600)) for k in (1, 2, 3)]
    assert within == pytest.approx([0.6827, 0.9545, 0.9973], abs=0.01)


@pytest.mark.parametrize(("shape", "fan_in"), [(KERNEL, 800), (MATRIX, 500)])
def test_he_in_is_normal_with_variance_two_over_fan_in(shape: tuple[int, ...], fan_in: int) -> None:
    values = init.he_in(rng(), shape, shape)
    assert values.dtype == np.float32
    assert values.std() == pytest.approx(np.sqrt(2 / fan_in), rel=0.02)


def test_uniform_is_between_its_bounds_whatever_the_shape() -> None:
    for shape in (MATRIX, (200,)):
        values = init.uniform(0.1)(rng(), shape, MATRIX)
        assert values.dtype == np.float32
        assert 0.095 < np.abs(values).max() <= 0.1
        assert values.var() == pytest.approx(0.1**2 / 3, rel=0.15)


def test_fan_in_bounds_weight_and_bias_by_the_inputs_of_the_layer() -> None:
    for shape in (MATRIX, (200,)):
        values = init.fan_in(rng(), shape, MATRIX)
        assert 0.95 / np.sqrt(500) < np.abs(values).max() <= 1 / np.sqrt(500)
        assert abs(values.mean()) < 0.1 / np.sqrt(500)


def test_initialise_gives_every_layer_the_rule_of_its_class() -> None:
    network = DigitsCnn(width=4, classes=10)

    def ones(rng: np.random.Generator, shape: init.Shape, weight: init.Shape) -> np.ndarray:
        return np.ones(shape, np.float32)

    init.initialise(network, 0, {Conv: (ones, ones), Linear: (init.zeros, ones)})
    means = {name: value.numpy().mean() for name, value in network.state_dict().items() if value is not None}
    norm = {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1}
    wanted = {f"bn{i}.{name}": mean for i in (1, 2, 3) for name, mean in norm.items()}
    wanted |= {f"conv{i}.weight": 1 for i in (1, 2, 3)} | {"fc.weight": 0, "fc.bias": 1}
    assert means == wanted
