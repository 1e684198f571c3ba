"""`twotower bench` and `twotower demo`: what it is worth, and how it goes together."""

from __future__ import annotations

import importlib.util
import runpy
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from towers.errors import InputError
from twotower.commands.reading import Weights

app = typer.Typer()
CHECKOUT = Path(__file__).resolve().parents[2]


class Demo(StrEnum):
    """What there is to see."""

    movielens = "movielens"
    studio = "studio"


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(
    context: typer.Context, name: Annotated[str, typer.Argument(help="Such as movielens-100k; options may follow.")]
) -> None:
    """Run a benchmark: a table, then one JSON object as the last line."""
    module = f"benchmarks.{_benchmark(name)}"
    sys.argv[1:] = context.args
    runpy.run_module(module, run_name="__main__", alter_sys=True)


@app.command()
def demo(
    name: Annotated[
        Demo, typer.Argument(help="movielens: real ratings. studio: a generated music shop, to be seen and heard.")
    ] = Demo.movielens,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for model, index, data and report; default: runs/demo, for studio runs/studio."),
    ] = None,
    weights: Weights = None,
) -> None:
    """The whole chain on MovieLens-100K or on a generated music shop, on this machine."""
    if name is Demo.studio:
        from twotower.studio import demo as studio

        studio.run(out=out or Path("runs/studio"), weights=weights)
    else:
        from twotower.demo import run

        run(out=out or Path("runs/demo"), weights=weights)


def _benchmark(name: str) -> str:
    """The module of a benchmark.

    Raises:
        InputError: there is none of that name, or no benchmark at all, as in an installed wheel.
    """
    folder = CHECKOUT / "benchmarks"
    found = importlib.util.find_spec("benchmarks")
    if found is None or found.origin != str(folder / "__init__.py"):
        raise InputError("benchmarks are not part of an installed twotower: run this from a checkout of the repository")
    runnable = [path.stem for path in sorted(folder.glob("*.py")) if _ends_in_a_record(path.read_text("utf-8"))]
    if name.replace("-", "_") not in runnable:
        names = ", ".join(stem.replace("_", "-") for stem in runnable) or "none"
        raise InputError(f"there is no benchmark {name!r}; there are: {names}")
    return name.replace("-", "_")


def _ends_in_a_record(source: str) -> bool:
    """Whether a module can be run and prints a record at its end, as a page or a table of them does not."""
    return '__name__ == "__main__"' in source and ".finish(" in source
