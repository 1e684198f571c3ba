"""twotower doctor [--model M --index I --catalog C --interactions L]

Look at what twotower runs on, or at a run whose recall is low: what is wrong with it, and what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from indexing.index import ItemIndex
from towers.catalog import Catalog
from towers.interactions import Interactions
from training.measuring import symptoms
from training.measuring.checkup import Case, Finding, attempt
from twotower.commands.reading import read_log, read_offered

if TYPE_CHECKING:
    from towers.model import TwoTower

Part = TypeVar("Part")


def examine_folders(
    model: Path, index: Path, catalog: Path, interactions: Path, people: Path | None = None
) -> list[Finding]:
    """Examine a run on disk. What cannot be loaded is a finding, and what does not need it is examined all the same.

    Args:
        model, index: folders.
        catalog: its items; what came to a service over HTTP counts as in it.
        interactions, people: tables, as every command reads them.
    """
    failed: list[Finding] = []
    towers = _load(failed, "model", partial(_load_model, model))
    found = _load(failed, "index", partial(ItemIndex.load, index))
    items = _load(failed, "catalog", partial(read_offered, catalog))
    scale = None if towers is None else towers.config.rating.range
    log = _load(failed, "interactions", partial(read_log, interactions, people, scale))
    return failed + examine(towers, found, items, log)


def examine(
    model: TwoTower | None, index: ItemIndex | None, catalog: Catalog | None, log: Interactions | None
) -> list[Finding]:
    """Every examination that the parts allow which are there."""
    found: list[Finding] = []
    if index is not None:
        found.append(symptoms.faulty_vectors("index vectors", index.vectors, symptoms.REBUILD))
        if not found[-1].ok:
            index = None  # nothing that is worked out from these vectors would mean anything
    if model is not None and index is not None:
        found.append(symptoms.same_space(model, index))
    one_space = all(finding.ok for finding in found)
    for step in _examinations(model, index, catalog, log, one_space):
        found += attempt(step.func.__name__.replace("_", " "), step)
    return found


def report(findings: Sequence[Finding]) -> Group:
    """A table of what was found, and what to do about that which is not as it should be."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("looked at")
    table.add_column("found", justify="right", no_wrap=True)
    table.add_column("expected", no_wrap=True)
    for one in findings:
        mark = "[green]✓[/]" if one.ok else "[bold red]![/]"
        about = f"\n[dim]{escape(one.about)}[/]" if one.about else ""
        table.add_row(mark, one.name + about, escape(_figure(one.figure)), escape(one.threshold))
    wrong: dict[str, list[str]] = {}
    for one in findings:
        if not one.ok:
            wrong.setdefault(one.remedy, []).append(one.name)
    lines = [f"[bold red]![/] [bold]{', '.join(names)}[/]: {escape(remedy)}." for remedy, names in wrong.items()]
    return Group(table, *(lines or ["Nothing is wrong."]))


def _examinations(
    model: TwoTower | None,
    index: ItemIndex | None,
    catalog: Catalog | None,
    log: Interactions | None,
    one_space: bool,
) -> Iterator[partial[list[Finding]]]:
    """What can be examined; queries and vectors embedded anew mean nothing to an index of another space."""
    if index is not None:
        yield partial(symptoms.items_apart, index)
        yield partial(symptoms.near_duplicates, index)
    if index is not None and catalog is not None:
        yield partial(symptoms.membership, index, catalog)
    if model is not None and index is not None and catalog is not None and one_space:
        yield partial(symptoms.aligned, model, index, catalog)
    if model is not None and catalog is not None:
        yield partial(symptoms.texts, model, catalog)
    if model is not None and index is not None and catalog is not None and log is not None:
        case = Case(model, index, catalog, log)
        yield partial(symptoms.own_vectors, case)
        yield partial(symptoms.people, case)
        yield partial(symptoms.leaks, case)
        if one_space:
            yield partial(symptoms.answers, case)


def _load_model(folder: Path) -> TwoTower:
    from towers.model import TwoTower

    return TwoTower.load(folder)


def _load(failed: list[Finding], name: str, read: Callable[[], Part]) -> Part | None:
    """What `read` returns; where it fails, None, and a finding more."""
    try:
        return read()
    except Exception as error:
        remedy = "give another path, or make it anew; what needs it is not looked at until then"
        failed.append(Finding(name, "not loaded", "loaded", False, str(error), remedy))
        return None


def _figure(figure: float | int | str) -> str:
    return f"{figure:,.3f}" if isinstance(figure, float) else f"{figure:,}" if isinstance(figure, int) else figure
