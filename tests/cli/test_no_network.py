"""Nothing is asked of any network, whatever is done."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.cli.conftest import Command

COMMANDS = (
    ("inspect", "model.onnx"),
    ("prepare", "model.onnx", "-o", "run", "--recipe", "recipe.toml"),
    ("train", "run", "--data", "data.npz", "--threads", 1),
    ("status", "run"),
    ("evaluate", "run", "--data", "data.npz"),
    ("predict", "run", "--data", "data.npz", "-o", "said.npz"),
    ("export", "run", "-o", "final.onnx"),
    ("verify", "model.onnx", "final.onnx"),
    ("doctor",),
)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Python was asked to connect to, or to look up; all of it fails."""
    found: list[str] = []

    def refuse(name: str) -> object:
        def call(*arguments: object, **_: object) -> None:
            found.append(f"{name} {arguments[1:] if name.startswith('socket.') else arguments}")
            raise OSError("no network")

        return call

    for name in ("connect", "connect_ex", "sendto", "bind", "listen"):
        monkeypatch.setattr(socket.socket, name, refuse(f"socket.{name}"))
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse(name))
    return found


def test_no_command_connects_to_anything(folder: Path, dsd_ort: Command, tried: list[str]) -> None:
    ended = {command[0]: dsd_ort(*command).status for command in COMMANDS}
    assert tried == []
    assert {name: status for name, status in ended.items() if status not in (0, 1)} == {}


def test_the_fixture_notices_what_is_tried(tried: list[str]) -> None:
    with pytest.raises(OSError, match="no network"):
        socket.create_connection(("localhost", 9))
    with pytest.raises(OSError, match="no network"), socket.socket() as end:
        end.connect(("127.0.0.1", 9))
    assert len(tried) == 2
