"""``python -m graphs`` lists the networks; ``python -m graphs NETWORK -o FILE`` writes one."""

import argparse
import inspect
import math
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir

from graphs import NETWORKS

MAY_BE_ZERO = ("context", "dropout")
"""Arguments that are positive by default and may be 0; those that are 0 by default may be 0 as well."""


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; wrong usage exits with status 2."""
    parser = argparse.ArgumentParser("python -m graphs", description="Writes a network as an ONNX file.")
    networks = parser.add_subparsers(dest="network", title="networks")
    for name, build in NETWORKS.items():
        network = networks.add_parser(name, help=_about(build), description=inspect.getdoc(build))
        network.add_argument("-o", "--output", type=Path, required=True, help="the ONNX file to write")
        for option in inspect.signature(build).parameters.values():
            flag = f"--{option.name.replace('_', '-')}"
            network.add_argument(flag, type=int, default=option.default, help=f"({option.default})")
    options = vars(parser.parse_args(arguments))
    name, output = options.pop("network"), options.pop("output", None)
    if name is None:
        print("\n".join(_listing()))
        return
    for key, value in options.items():
        if value < (0 if key in MAY_BE_ZERO else min(1, networks.choices[name].get_default(key))):
            parser.error(f"--{key.replace('_', '-')} {value}: give a positive number")
    try:
        model = NETWORKS[name](**options)
        ir.save(model, output)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{output}: {name}, {count_parameters(model):,} parameters")


def count_parameters(model: ir.Model) -> int:
    """How many numbers *model* trains: all initializers but the running statistics of batch norms."""
    initializers = model.graph.initializers
    return sum(math.prod(v.shape.numpy()) for n, v in initializers.items() if v.shape and ".running_" not in n)


def _listing() -> list[str]:
    rows = [("network", "parameters", "arguments and their defaults", "")]
    for name, build in NETWORKS.items():
        arguments = ", ".join(f"{p.name}={p.default}" for p in inspect.signature(build).parameters.values())
        rows.append((name, f"{count_parameters(build()):,}", arguments, _about(build)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [f"{n:{widths[0]}}  {p:>{widths[1]}}  {a:{widths[2]}}  {about}".rstrip() for n, p, a, about in rows]


def _about(build: Callable[..., ir.Model]) -> str:
    return (inspect.getdoc(build) or "").partition("\n")[0]


if __name__ == "__main__":
    main()
