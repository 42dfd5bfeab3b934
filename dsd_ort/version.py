"""The one place that says which version this is; the package metadata read it here."""

__version__ = "0.1.0"
