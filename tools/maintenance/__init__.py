"""What maintainers run beside the tests.

    python -m tools.maintenance.snapshot           has a change changed what the code makes?  Digests of graphs, exports
    python -m tools.maintenance.imports            the picture of the imports, docs/imports.svg
    python -m tools.maintenance.reference          a page of the documentation's reference, from the code
    python -m tools.maintenance.screenshots        a report's pictures in the documentation, by a headless Chromium
    python -m tools.maintenance.bad_input          docs/errors.md: what is said to bad input
    python -m tools.maintenance.operator_tables    where operators stand in tables: what is known of one has one home
    python -m tools.maintenance.make_digits        the demo's pictures, again from their source

None needs more than the tests do, but for scikit-learn, which has the pictures.
"""
