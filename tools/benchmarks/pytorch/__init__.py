"""A training step of every network, against PyTorch's on the same processor: forward, backward and update.

    .venv-oracle/bin/python -m tools.benchmarks.pytorch                       all, at all batches
    .venv-oracle/bin/python -m tools.benchmarks.pytorch resnet18 --batches 8  one
    .venv-oracle/bin/python -m tools.benchmarks.pytorch --missing             what has fewer than --runs measurements
    .venv-oracle/bin/python -m tools.benchmarks.pytorch --page                docs/performance.md from what is there
    .venv-oracle/bin/python -m tools.benchmarks.pytorch mobilenet_v2 --batches 8 --profile

Each measurement is a process of its own, in which the sides take turns on the same batch with the same threads: ours,
PyTorch eager, ``torch.compile`` with its default settings, and ONNX Runtime Training's own API, where these bear the
network.  SGD with momentum 0.9 and weight decay 1e-4 (ONNX Runtime's API has neither), batch norm and dropout in
training.  A row's ratio is the median over its turns; docs/bench_pytorch.json keeps every measurement that was made,
and the page gives medians over them, and the spread.  In the same process a matrix product and a sum of arrays say
what the processor can do at that moment, and two more processes how much memory either side takes.
"""
