"""Prints a page of the reference."""

from __future__ import annotations

import click

from tools.maintenance.reference import PAGES


@click.command()
@click.argument("page", type=click.Choice(list(PAGES)))
def main(page: str) -> None:
    """Print PAGE of the reference, as Markdown."""
    click.echo(PAGES[page]())


if __name__ == "__main__":
    main()
