"""``python -m dsd_ort`` is ``dsd-ort``."""

from dsd_ort.cli import main

main()
