"""The pages of the reference, made from the code: nothing of them is written by hand, and no file holds them.

``make docs`` puts them among the others (:mod:`tools.maintenance.site`)::

    python -m tools.maintenance.reference reference/recipe.md      # prints one

What a key, option or argument means stands where it is defined, and nowhere here; an example of each key of a recipe
(``examples.toml``) is the one thing that these pages add.
"""

from __future__ import annotations

from collections.abc import Callable

from tools.maintenance.reference import commands, errors, python, recipe

PAGES: dict[str, Callable[[], str]] = {
    "reference/recipe.md": recipe.page,
    "reference/commands.md": commands.page,
    "reference/python.md": python.page,
    "reference/errors.md": errors.page,
}
"""Where a page stands in the site, and what writes it."""
