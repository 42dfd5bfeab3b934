"""What trains, and rightly: every case of every operator, models of others, random graphs.

    .venv/bin/python -m tools.coverage                      operators and models, into docs/coverage.md and .json
    .venv-oracle/bin/python -m tools.coverage.corpus        makes the folder of models, which needs PyTorch
    .venv/bin/python -m tools.coverage.random_graphs        gradients of random graphs, into docs/random_graphs.json

A test holds that docs/coverage.md has what the operators' part finds now.
"""
