"""Whole jobs, each as one command: ``python -m examples.NAME``, in the repository.

An example prepares its data, builds its network with :mod:`graphs`, and compares DSD with the same budget spent dense
only (:func:`dsd_ort.compare`).  It writes to one folder only, ``runs/NAME``.  Stopped, the same command goes on.
"""
