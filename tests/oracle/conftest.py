"""These tests need PyTorch, which the package and its other tests never do: make oracle runs them."""

from importlib.util import find_spec

from tests.session import TRAINING_BUILD

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]
if not TRAINING_BUILD:  # it imports the exporter of training graphs
    collect_ignore_glob.append("test_artifacts.py")
