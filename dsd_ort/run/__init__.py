"""Executes a Program: the training loop and all that it needs.

In: a run folder and data.  Out: checkpoints, a journal, metrics.  What exports (``ship/``) is not imported here.
"""
