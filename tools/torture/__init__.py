"""What becomes of runs that are killed, stopped, left without room and damaged: ``python -m tools.torture``."""
