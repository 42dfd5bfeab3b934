"""How fast it is, and with how much memory; each command commits its result.  Two sides take turns, medians count.

    .venv-oracle/bin/python -m tools.benchmarks.pytorch     a training step of every network, against PyTorch
    .venv-oracle/bin/python -m tools.benchmarks.products    matrix products alone, against PyTorch's
    .venv-oracle/bin/python -m tools.benchmarks.recurrent   recurrent layers, against PyTorch's modules
    .venv-oracle/bin/python -m tools.benchmarks.ctc         CTC's loss and gradient, against PyTorch's
    .venv-oracle/bin/python -m tools.benchmarks.pipeline    pictures a second, against DataLoader and Pillow alone
    .venv/bin/python -m tools.benchmarks.portable           an ONNX Runtime without training, against the training build
    .venv/bin/python -m tools.benchmarks.recompute          what the backward pass computes again, against what it keeps
    .venv/bin/python -m tools.benchmarks.memory             data larger than memory, 10,000 updates, and checkpoints
    .venv/bin/python -m tools.benchmarks.update             an update's share of a step, and what memory would ask for
    .venv/bin/python -m tools.benchmarks.sparsity           what masks leave empty, and a step without it
    .venv-oracle/bin/python -m tools.benchmarks.depthwise   what one compiled kernel would give, against PyTorch's
    .venv/bin/python -m tools.benchmarks.start              an inspection, and the first step of a run
    .venv/bin/python -m tools.benchmarks.report             how long a report takes, of a long run and of a large model
    .venv/bin/python -m tools.benchmarks.full_size          the paper's networks at full size, from prepare to verify
    .venv/bin/python -m tools.benchmarks.masks              the masks of a million weights, by pattern and criterion

``--json docs/bench_NAME.json`` (``docs/full_size.json``) writes what is committed.
"""
