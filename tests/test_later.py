from __future__ import annotations

import subprocess
import sys

import pytest


def said(code: str) -> str:
    """What a Python of its own prints, into which nothing was imported yet."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_sympy_is_not_loaded_for_what_has_no_use_for_it() -> None:
    code = "import sys, dsd_ort, onnx_ir, dsd_ort.api.models as m, graphs, tempfile, pathlib\n"
    code += "path = pathlib.Path(tempfile.mkdtemp(), 'm.onnx'); onnx_ir.save(graphs.NETWORKS['lenet'](), path)\n"
    code += "assert m.inspect(path).trainable; print('sympy' in sys.modules, 'sympy.core' in sys.modules)"
    assert said(code) == "False False"


@pytest.mark.parametrize(
    "use",
    [
        "import sympy; print(sympy.Max(1, 2))",
        "import sympy.core.numbers; print(sympy.core.numbers.Integer(2))",
        "from sympy import Integer; print(Integer(2))",
        "import onnx_ir; print((onnx_ir.SymbolicDim('N') + 2).value.count('2') + 1)",
        "import onnx_ir; print(onnx_ir.SymbolicDim('max(N, 1)').evaluate({'N': 2}))",
    ],
)
def test_whoever_uses_it_finds_all_of_it(use: str) -> None:
    assert said(f"import dsd_ort; {use}") == "2"


def test_onnx_ir_is_as_if_nothing_had_been_done() -> None:
    code = "import dsd_ort, onnx_ir, importlib.resources as r; print(type(onnx_ir.__loader__).__name__, "
    code += "onnx_ir.__spec__.loader is onnx_ir.__loader__, r.files(onnx_ir).joinpath('_core.py').is_file())"
    assert said(code) == "SourceFileLoader True True"


def test_where_it_is_loaded_already_it_stays_as_it_is() -> None:
    code = "import sympy; kept = sympy.Max; import dsd_ort, onnx_ir; import sympy; print(sympy.Max is kept)"
    assert said(code) == "True"
