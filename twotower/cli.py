"""The command line: `twotower COMMAND`, and how every command ends.

Results go to standard output; progress, remarks and errors to standard error. Exit codes: 0 done, 1 failed,
2 used wrongly, 130 interrupted.
"""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import twotower
from towers.errors import TwoTowerError
from twotower.commands import (
    asking,
    checking,
    evaluating,
    importing,
    keeping,
    learning,
    measuring,
    refreshing,
    serving,
    tuning,
    tuning_index,
)

DEBUG = "--debug"


class Commands(TyperGroup):
    """Commands that end with a word and exit code 130 when they are interrupted."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _end("interrupted", 130)


app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
keeping.index.command()(tuning_index.tune)
for group in (
    learning.app,
    refreshing.app,
    keeping.app,
    tuning.app,
    asking.app,
    checking.app,
    evaluating.app,
    importing.app,
    measuring.app,
    serving.app,
):
    app.add_typer(group)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"twotower {twotower.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show where an error came from; may stand anywhere.")] = False,
) -> None:
    """Recommend: train two towers on a catalog and a log, build an index, ask it."""


def main() -> None:
    """Run the command line and exit; an error is one sentence on standard error."""
    arguments = [argument for argument in sys.argv[1:] if argument != DEBUG]
    debug = len(arguments) < len(sys.argv) - 1
    if not debug:
        warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        app([DEBUG, *arguments] if debug else arguments, prog_name="twotower")
    except TwoTowerError as error:
        if debug:
            raise
        _end(f"error: {error}", error.exit_code)
    except Exception as error:
        if debug:
            raise
        _end(f"error: {type(error).__name__}: {error}; run again with {DEBUG} to see where", 1)


def _show_warning(message: Warning | str, *_: Any) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _end(sentence: str, code: int) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(code)
