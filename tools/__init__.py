"""What developers run beside the tests, from the repository's root; not installed.  One folder a purpose.

=============  ====================================================================
benchmarks/    how fast it is, and with how much memory, beside others
coverage/      what trains: operators, models, random graphs
fuzz/          files that are almost right, and how commands end on them
gpu_check/     right numbers and times on a GPU: one command, ``tools/gpu_check.py``
maintenance/   what a change does to what the code makes, and to its imports
measuring/     what these share: the machine, and work that may end its process
=============  ====================================================================
"""
