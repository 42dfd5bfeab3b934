"""The manifest of a run folder: what an older version wrote is read, and identifies the run as it did."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dsd_ort.graph.program import open_program
from dsd_ort.notes import Note

OLD = (
    '{"format":1,"model":"m.onnx","source_digest":"sha256:0","recipe":{"batch_size":8,"phase":[{"kind":"dense",'
    '"epochs":1,"learning_rate":0.05}]},"inputs":[{"name":"x","dtype":"float32","shape":["n",8],"label":false,'
    '"classes":null,"ignore_index":null,"blank":null}],"labels":[],"outputs":{"y":"label"},"step_loss":"loss",'
    '"loss":"loss","lengths":null,"parameters":[{"name":"w","shape":[8,12],"offset":0,"size":96,"role":"matrix",'
    '"layer":"MatMul mm: one","prunable":true,"trained":true,"weight_decay":0.0,"learning_rate_factor":1.0,'
    '"successor":"w_grad"}],"statistics":[],"notes":["HardSwish \'act: one\': x · min(max(x/6 + ½, 0), 1)",'
    '"bfloat16: computed in float32 for training"],"graph_digests":{}}'
)
"""A manifest of before notes were records, as its digest is of it."""


def test_a_manifest_with_sentences_for_notes_is_read_and_keeps_its_digest(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(OLD, "utf-8")
    program = open_program(tmp_path)
    assert program.digest == f"sha256:{hashlib.sha256(OLD.encode()).hexdigest()}"
    assert program.notes == [
        Note(kind="rewrite", node="HardSwish 'act: one'", words="x · min(max(x/6 + ½, 0), 1)"),
        Note(kind="training", words="bfloat16: computed in float32 for training"),
    ]


def test_a_manifest_of_before_values_were_computed_again_says_that_none_is(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(OLD, "utf-8")
    assert open_program(tmp_path).recipe.recompute == "none"
