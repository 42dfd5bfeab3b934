"""What ships in dsd_ort/demo and examples: the files are what their makers say, and the recipes are recipes."""

import hashlib
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from dsd_ort.recipe import Recipe
from graphs import digits_mlp

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "dsd_ort" / "demo"


def digits(name: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(DEMO / f"digits-{name}.npz") as arrays:
        assert set(arrays) == {"image", "label"}
        return arrays["image"], arrays["label"]


def test_graphs_writes_the_bundled_model_anew_byte_for_byte() -> None:
    assert ir.to_proto(digits_mlp()).SerializeToString() == (DEMO / "digits_mlp.onnx").read_bytes()


@pytest.mark.parametrize(
    ("name", "count", "digest"),
    [
        ("train", 1287, "faf8245a5dabcf460533ee057e72fa1877c86e43038e3c2646c0667ea8e62962"),
        ("test", 510, "97f1874f6d63af189e13cc40c914252530d7b190eb542a76778b55a3cb8a1ec1"),
    ],
)
def test_the_digits_are_those_of_the_source(name: str, count: int, digest: str) -> None:
    image, label = digits(name)
    assert (image.shape, image.dtype, image.min(), image.max()) == ((count, 1, 8, 8), np.uint8, 0, 16)
    assert (label.shape, label.dtype) == ((count,), np.uint8)
    assert np.bincount(label, minlength=10).min() > 40
    assert hashlib.sha256(image.tobytes() + label.tobytes()).hexdigest() == digest


def test_training_and_test_digits_begin_with_a_form_and_share_no_image() -> None:
    (train, train_label), (test, test_label) = digits("train"), digits("test")
    for label in (train_label, test_label):
        np.testing.assert_array_equal(label[:30], np.tile(np.arange(10), 3))
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in test}


def test_the_licence_names_source_authors_and_licence() -> None:
    text = (DEMO / "LICENSE-digits.txt").read_text("utf-8")
    for part in (
        "E. Alpaydin and C. Kaynak",
        "doi.org/10.24432/C50P49",
        "creativecommons.org/licenses/by/4.0",
        "changed",
    ):
        assert part in text


@pytest.mark.parametrize("path", [DEMO / "digits.toml", ROOT / "examples" / "images" / "recipe.toml"])
def test_bundled_recipes_are_dense_sparse_dense_with_falling_rates(path: Path) -> None:
    recipe = Recipe.load(path)
    rates = [phase.schedule.initial for phase in recipe.phase]
    assert [phase.kind for phase in recipe.phase] == ["dense", "sparse", "dense"]
    assert rates == sorted(rates, reverse=True)
