"""What the demo of the generated shop says on a terminal."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from training.config import Recipe
from twotower.studio.exam import KNOWN, NAMES, NEW, Exam, K
from twotower.studio.findings import Findings
from twotower.studio.settings import GENERATED
from twotower.studio.shop import Shop

WIDTH = 100  # where standard output is no terminal


class Screen:
    """Standard output, one part of the demo after the other."""

    def __init__(self) -> None:
        self._console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)

    def shop(self, shop: Shop, exam: Exam) -> None:
        """What was made, and what is asked."""
        self._head("A generated music shop")
        self._say(f"[bold]{GENERATED}[/]")
        self._say(
            f"{len(shop.catalog):,} tracks, each with a text, a cover and a sound; {len(shop.users):,} listeners, "
            f"{len(exam.people):,} of them with {len(shop.log):,} choices to learn from. "
            f"{shop.cold.sum():,} tracks are new: nobody has chosen them yet."
        )
        self._say("What listeners like hangs on text, cover and sound alike; each tells a part that the others do not.")

    def recipe(self, recipe: Recipe) -> None:
        """What is trained."""
        self._head("Training")
        self._say(f"{recipe.train.epochs} epochs on what frozen encoders make of text, cover and sound.")

    def findings(self, findings: Findings) -> None:
        """An answer with its reasons, and the figures."""
        self._answer(findings)
        self._methods(findings)

    def written(self, out: Path, missing: str | None, commands: list[list[str]]) -> None:
        """Where things are, where the page is or why there is none, and what to try next."""
        self._head("Written")
        self._say(escape(", ".join(str(out / name) for name in ("shop", "model", "index"))))
        page = f"See, listen and pick tracks yourself: open {out / 'report.html'} in a browser."
        self._say(f"[bold]{escape(page)}[/]" if missing is None else f"[yellow]{escape(missing)}[/]")
        self._head("Try next")
        for command in commands:
            at = command.index("--model")
            lines = shlex.join(command[:at]), shlex.join(command[at:])
            self._console.print("  " + " \\\n      ".join(lines), markup=False, soft_wrap=True)

    def _answer(self, findings: Findings) -> None:
        catalog, picked = findings.shop.catalog, findings.shelf.rows[list(findings.pick)]
        self._head(f"Somebody picks {'; '.join(catalog.titles[row] for row in picked)}")
        table = _table("", "recommended", "score", *NAMES.values(), right_from=2)
        for rank, one in enumerate(findings.answers, start=1):
            shares = (f"{one.parts[kind]:+.3f}" for kind in NAMES)
            table.add_row(str(rank), escape(one.title), f"{one.score:.3f}", *shares)
        self._console.print(table)

    def _methods(self, findings: Findings) -> None:
        self._head(f"How often what a listener chooses is among the first {K}")
        table = _table("", KNOWN, "95 % interval", NEW, "95 % interval", right_from=1)
        for name, found in findings.methods().items():
            cells = [cell for split in (KNOWN, NEW) for cell in _figure(found[split])]
            table.add_row(escape(name), *cells)
        self._console.print(table)
        self._say(f"[dim]{escape(findings.explained())}[/]")
        self._say(f"{findings.seconds / 60:.1f} minutes in all.")

    def _head(self, text: str) -> None:
        self._console.print(f"\n[bold]{escape(text)}[/]")

    def _say(self, text: str) -> None:
        self._console.print(text)


def _figure(metric: list[float]) -> tuple[str, str]:
    value, low, high = metric
    return f"{value:.3f}", f"[dim]{low:.3f}–{high:.3f}[/]"


def _table(*names: str, right_from: int) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(names):
        table.add_column(name, justify="right" if number >= right_from else "left")
    return table
