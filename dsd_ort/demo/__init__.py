"""What ``dsd-ort demo`` trains on; data files only.

=================== ==============================================================================================
digits-train.npz    handwritten digits: ``image u8[1287, 1, 8, 8]`` in 0…16 and ``label u8[1287]`` in 0…9
digits-test.npz     510 others, by other people but for one at most (``tools/maintenance/make_digits.py``)
digits_mlp.onnx     an untrained MLP for them, as ``python -m graphs digits-mlp`` writes it
digits.toml         the recipe
LICENSE-digits.txt  where the digits come from, and under which licence
=================== ==============================================================================================
"""
