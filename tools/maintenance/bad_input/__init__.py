"""Bad input, and what dsd-ort says to it: ``python -m tools.maintenance.bad_input`` writes ``docs/errors.md``."""
