"""What the command line says: harmless to the terminal, and without what looks like a secret."""

from __future__ import annotations

import click


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print lines for a person."""
    from harness.model.secrets import without_secrets
    from harness.report.plain import clean_lines

    click.echo(clean_lines(without_secrets(text)), nl=nl, err=err)


def say_data(text: str) -> None:
    """Print JSON for a program, as it is; in a terminal, too, it does nothing but stand there."""
    from harness.report.plain import clean_json

    click.echo(clean_json(text), nl=False)
