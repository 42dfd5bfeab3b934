"""The picture of a package's imports: a box a folder, an arrow for what its files import of another one.

    python -m tools.maintenance.imports -o docs/imports.svg
    python -m tools.maintenance.imports --root /tmp/before -o docs/imports_before.svg    # a worktree of a revision

Boxes stand from top to bottom as the layers of import-linter's contract in pyproject.toml do, on one ground where they
share a layer.  What the contract does not name stands above its layers if it imports one of them, otherwise beneath.
Exit status 1 if an arrow does not go downwards; it is red.
"""
