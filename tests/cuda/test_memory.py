"""Buffers and batches on the device: copies are real with the stub driver, so that what arrives can be compared."""

from __future__ import annotations

from pathlib import Path

from tests.cuda.conftest import Child

MEMORY = """
import numpy as np
from dsd_ort.run.memory import Cuda, Tensor, at, cell, part
from dsd_ort.graph.manifest import Slice

memory = Cuda(0)
rng = np.random.default_rng(0)

def fetch(tensor: Tensor) -> np.ndarray:
    array = np.empty(tensor.shape, tensor.dtype)
    memory.stream.to_host(array.ctypes.data, tensor.address, array.nbytes)
    memory.stream.synchronize()
    return array

# A buffer has the host's content, keeps it when the host's changes, and gives it back.
host = rng.random(100, np.float32)
buffer, content = memory.buffer(host), host.copy()
host[...] = 0
assert np.array_equal(fetch(part(buffer)), content)
buffer.download()
assert np.array_equal(host, content)
host += 1
buffer.upload()
assert np.array_equal(fetch(part(buffer, 10, 20)), content[10:20] + 1)
piece = Slice(name="w", shape=(3, 4), offset=16, size=12, role="kernel", layer="w")
assert np.array_equal(fetch(at(buffer, piece)), (content[16:28] + 1).reshape(3, 4))
memory.copy(cell(buffer, 0).address, cell(buffer, 99).address, 1)
assert fetch(cell(buffer, 0)) == content[99] + 1

# Batches arrive whole; those of one size in the same place, those of another size in another.
def batch(size: int) -> dict[str, np.ndarray]:
    return {"image": rng.random((size, 3, 4), np.float32), "label": rng.integers(0, 9, size)}

places = []
for size in (4, 4, 4, 2, 4, 7):
    given = batch(size)
    staged = memory.stage(memory.send(given))
    assert all((t.dtype, t.shape) == (given[name].dtype.type, given[name].shape) for name, t in staged.items())
    assert all(np.array_equal(fetch(staged[name]), array) for name, array in given.items())
    places.append((staged["image"].address, staged["label"].address))
assert places[0] == places[1] == places[2] == places[4] and len(set(places)) == 3

# Not contiguous, and a scalar.
turned = rng.random((5, 6), np.float32).T
assert np.array_equal(fetch(memory.stage(memory.send({"x": turned}))["x"]), turned)
assert fetch(memory.place({"s": np.array(3.5, np.float32)})["s"]) == 3.5
assert np.array_equal(fetch(memory.give("n", np.arange(2))), [0, 1])

# Three may be on their way; of more, none is taken for another.
ahead = [batch(3) for _ in range(3)]
for sent in [memory.send(given) for given in ahead]:
    assert np.array_equal(fetch(memory.stage(sent)["image"]), sent.arrays["image"])
first, *_ = [memory.send(batch(3)) for _ in range(5)]
try:
    memory.stage(first)
except AssertionError:
    print("all right")
"""


def test_buffers_and_batches_arrive(stub_libraries: Path, child: Child) -> None:
    answer = child(stub_libraries, "-c", MEMORY)
    assert (answer.stdout, answer.stderr) == ("all right\n", "")


NO_ROOM = """
from dsd_ort.errors import DataError
from dsd_ort.run.gpu import Block, use
use(0)
try:
    Block(1 << 40)
except DataError as error:
    print(error.what, "|", error.where)
"""


def test_a_gpu_without_room_says_so(stub_libraries: Path, child: Child) -> None:
    answer = child(stub_libraries, "-c", NO_ROOM)
    assert answer.stdout == "there is no room for 1048576 MiB more | the GPU\n", answer.stderr
