"""What the demo says on a terminal."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Collection
from pathlib import Path
from textwrap import wrap

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serving.recommendations import Recommendations
from towers.catalog import Catalog
from towers.interactions import Interactions
from training.config import Recipe
from training.measuring.splits import Split
from twotower.findings import COLUMNS, Findings, recipe_words, value_of
from twotower.story import LABEL, Candidate, Story

SHOWN = 10  # candidates of a person
KEPT = "\N{NO-BREAK SPACE}"
WIDTH = 100  # where standard output is no terminal


class Screen:
    """Standard output, one part of the demo after the other."""

    def __init__(self) -> None:
        self._console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)

    def data(self, catalog: Catalog, log: Interactions, ties: int, split: Split) -> None:
        """The data in one line, and what is asked of it."""
        low, high = log.rating_range or (0, 1)
        people = len(split.train)
        self._head("MovieLens-100K")
        self._say(f"{people:,} people, {len(catalog):,} films, {len(log):,} ratings of {low:g} to {high:g} stars.")
        self._say(
            f"{ties:,} ratings carry the very second of the one before, so that the file decides their order; "
            f"for {split.ties:,} people this decides which film is asked for."
        )
        self._say(
            "The question: each person's last film (test), given all before, among all films they had not watched. "
            "The film before the last one is for choosing (validation)."
        )

    def recipe(self, recipe: Recipe) -> None:
        """What is trained."""
        self._head("Training")
        self._say(f"{recipe_words(recipe)}.")

    def left_out(self, sentence: str) -> None:
        """Something that this run goes on without."""
        self._say(f"[yellow]{escape(sentence)}[/]")

    def findings(self, findings: Findings) -> None:
        """One person, plain words, neighbours, the methods."""
        self._story(findings.story)
        self._head(f'In plain words: "{findings.words}"')
        self._films(findings.catalog, findings.described)
        self._head(f"Films near {findings.film}")
        self._films(findings.catalog, findings.similar)
        self._head("How well, beside others")
        self._methods(findings)
        self._say(
            f"[dim]Over {len(findings.split.test):,} people; below each figure its 95 % interval. "
            "recall@100: how often the film is among the 100 candidates that re-ranking sees. "
            "Settings of the baselines are those that `twotower bench movielens-100k` chose on validation data.[/]"
        )
        self._say(f"[bold]{escape(findings.verdict)}[/]")
        self._say(escape(findings.chosen()))

    def written(self, out: Path, page: str, commands: list[list[str]]) -> None:
        """Where things are, and what to try next."""
        self._head("Written")
        names = ("model", "index", "items.parquet", "interactions.parquet", "people.parquet")
        self._say(escape(f"{', '.join(str(out / name) for name in names)}; {page}"))
        self._head("Try next")
        for command in commands:
            self._console.print(_broken(command), markup=False, soft_wrap=True)

    def _methods(self, findings: Findings) -> None:
        table = _table("method", *COLUMNS, right=range(1, 1 + len(COLUMNS)))
        best = findings.best()
        for row in findings.rows:
            table.add_row(row["method"], *(_figures(row["metrics"][name], best[name]) for name in COLUMNS))
        self._console.print(table)

    def _story(self, story: Story) -> None:
        self._head(f"One person: user {story.user}, {story.about}")
        self._say(f"[dim]Picked as {escape(story.picked)}.[/]")
        last = "; ".join(f"{film} {given:g}★" for film, given in story.watched)
        self._say(escape(f"{story.before} films so far, the last ones, newest first: {last}."))
        table = _table("", "retrieved", "score", "predicted", "re-ranked", right=(0, 2, 3, 4))
        for one in story.candidates[:SHOWN]:
            table.add_row(*_candidate(one), style="bold green" if one.watched else "")
        self._console.print(table)
        self._say(escape(story.outcome()))

    def _films(self, catalog: Catalog, answer: Recommendations) -> None:
        labels, genres = catalog.texts(LABEL), catalog.texts("[{genres}]")
        table = _table("film", "genres", "retrieval", "predicted", right=(2, 3))
        for row, one in zip(catalog.rows([one.item for one in answer]), answer, strict=True):
            table.add_row(escape(labels[row]), escape(genres[row]), f"{one.retrieval:.3f}", stars(one.rating))
        self._console.print(table)

    def _head(self, text: str) -> None:
        self._console.print(f"\n[bold]{escape(text)}[/]")

    def _say(self, text: str) -> None:
        self._console.print(text)


def _candidate(one: Candidate) -> tuple[str, ...]:
    moved = one.place - one.final
    arrow = f" {'↑' if moved > 0 else '↓'}{abs(moved)}" if moved else "   "
    return str(one.place), escape(one.film), f"{one.retrieval:.3f}", stars(one.stars), f"{one.final}{arrow:>4}"


def stars(rating: float | None) -> str:
    """A predicted rating, a dash where there is none."""
    return "–" if rating is None else f"{rating:.1f}★"


def _figures(metric: list[float] | float, best: float) -> str:
    """A figure, bold where it is the best one, with its interval below."""
    value = value_of(metric)
    text = f"[bold]{value:.3f}[/]" if value == best else f"{value:.3f}"
    return f"{text}\n[dim]{metric[1]:.3f}–{metric[2]:.3f}[/]" if isinstance(metric, list) else text


def _table(*names: str, right: Collection[int]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(names):
        table.add_column(name, justify="right" if number in right else "left")
    return table


def _broken(command: list[str]) -> str:
    """A command over several lines, as a shell takes it; an option stays with its value."""
    words = " ".join(shlex.quote(word).replace(" ", KEPT) for word in command)
    pairs = re.sub(r"(--[a-z]+) (?!--)", rf"\1{KEPT}", words)
    lines = wrap(pairs, WIDTH - 8, break_long_words=False, break_on_hyphens=False)
    return ("  " + " \\\n      ".join(lines)).replace(KEPT, " ")
