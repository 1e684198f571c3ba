"""`twotower evaluate`: how good a model, baselines and other libraries' lists are, on anybody's data."""

from __future__ import annotations

import sys
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twotower.commands.reading import CatalogFile, Json, Weights, read_catalog, read_log_of, tell

if TYPE_CHECKING:
    import numpy as np

    from towers.catalog import Catalog
    from towers.ids import IdList
    from towers.model import TwoTower
    from training.measuring.comparison import Comparison
    from training.measuring.splits import Split

app = typer.Typer()
COLUMNS = ("recall@20", "ndcg@20", "recall@20/tail", "recall@20/cold", "debiased-recall@20", "coverage@20", "gini@20")
GIB = 2**30
WIDE = 200  # characters, where the table goes into a file


@app.command()
def evaluate(
    catalog: CatalogFile,
    interactions: Annotated[Path, typer.Option(help="Events: a table with user_id, item_id and perhaps more.")],
    protocol: Annotated[str, typer.Option(help="leave-one-out, temporal, cold-items or given.")] = "leave-one-out",
    model: Annotated[
        Path | None, typer.Option(help="Folder of a model trained with `twotower train --protocol` of the same name.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file: train this model for the table.")] = None,
    recommendations: Annotated[
        list[Path] | None, typer.Option(help="Lists of another library: user_id, item_id, perhaps rank or score.")
    ] = None,
    baselines: Annotated[str | None, typer.Option(help="Names with commas, or none; default: all that fit.")] = None,
    people_file: Annotated[Path | None, typer.Option("--people", help="Attributes of people, with user_id.")] = None,
    rating_range: Annotated[tuple[float, float] | None, typer.Option(help="Smallest and largest rating.")] = None,
    most: Annotated[
        int, typer.Option(help="Ask about, and choose by, at most so many people, drawn at random.", min=1)
    ] = 10_000,
    memory: Annotated[float, typer.Option(help="GiB that a baseline may take.", min=0.1)] = 4.0,
    weights: Weights = None,
    json: Json = False,
) -> None:
    """One table for baselines, a model and other libraries' lists: the same people, the same metrics, intervals.

    What each protocol asks, and how leaks are refused, is told in docs/protocols.md.
    """
    from dataclasses import replace

    from towers.errors import InputError
    from towers.model import TwoTower
    from training.config import Recipe
    from training.measuring.comparison import Comparison, sample_people, split_log
    from training.saved import refuse_other_events
    from training.trainer import fit_split, with_range

    if model is not None and recipe is not None:
        raise InputError("a model and a recipe were given, expected one of them")
    _refuse_names([path.stem for path in recommendations or []], baselines, model or recipe)
    items, ours = read_catalog(catalog), TwoTower.load(model) if model is not None else None
    settings = Recipe.read(recipe)
    config = ours.config if ours is not None else settings
    log = read_log_of(items, interactions, people_file, rating_range or config.rating.range)
    users, split = split_log(protocol, log, items, config.data)
    if model is not None:
        refuse_other_events(model, split, protocol)
    asked, newcomers = sample_people(split.test, most), split.newcomers and sample_people(split.newcomers, most)
    chosen = sample_people(split.validation, most)
    tell(_people(split, len(asked), len(chosen)))
    comparison = Comparison(replace(split, validation=chosen, test=asked, newcomers=newcomers), protocol, len(items))
    _note_own_future(comparison)
    lists = [(path.stem, _read_lists(comparison, path, users, items)) for path in recommendations or []]
    _add_baselines(comparison, items, baselines, memory, weights)
    for name, rows in lists:
        comparison.add_lists(name, rows)
    if recipe is not None:
        ours, _ = fit_split(items, split, with_range(settings, log.rating_range), weights=weights)
    if ours is not None:
        _add_ours(comparison, items, ours)
    _show(comparison, json)


def _refuse_names(lists: list[str], baselines: str | None, ours: Path | None) -> None:
    """Before the work begins: a table without a row, or with two methods of one name."""
    from towers.errors import InputError
    from training.measuring.baselines import baseline_grids
    from training.measuring.comparison import OURS

    if baselines == "none" and not lists and ours is None:
        raise InputError("there is nothing to compare: give a model, a recipe, recommendations or baselines")
    for name in lists:
        if lists.count(name) > 1 or name.startswith(OURS) or name in {*baseline_grids(times=True), "content-knn"}:
            raise InputError(
                f"lists are named after their file, and {name!r} is the name of another method of the table: "
                "give the file another name"
            )


def _people(split: Split, asked: int, chosen: int) -> str:
    left = ", ".join(f"{count:,} {reason}" for reason, count in split.left_out.get("test", {}).items() if count)
    newcomers = f"; {len(split.newcomers):,} newcomers apart" if split.newcomers is not None else ""
    return (
        f"{asked:,} of {len(split.test):,} people asked about{newcomers}"
        + (f"; not asked: {left}" if left else "")
        + f"; ties in time for {split.ties:,}; settings of baselines chosen by {chosen:,} of {len(split.validation):,}"
        + ("; of one person there is no interval, so each shown is the figure itself" if asked == 1 else "")
    )


def _note_own_future(comparison: Comparison) -> None:
    """How many of those asked about have later events in training; only a split that was given can show any."""
    from training.measuring.leaks import own_future

    if comparison.protocol == "given" and comparison.split.log.times is not None:
        late = own_future(comparison.split)["test"]
        comparison.notes["given"] = {"asked about": len(comparison.split.test), "with later events in training": late}


def _add_baselines(
    comparison: Comparison, catalog: Catalog, names: str | None, memory: float, weights: Path | None
) -> None:
    from training.measuring.comparison import add_baselines

    if names == "none":
        return
    wanted = tuple(name.strip() for name in names.split(",")) if names else None
    content = None
    if comparison.protocol == "cold-items" or (wanted and "content-knn" in wanted):
        content = _content(catalog, weights)
    add_baselines(comparison, names=wanted, content=content, memory=memory * GIB, tell=tell)


def _content(catalog: Catalog, weights: Path | None) -> Any:
    """Vectors of the items' text by the encoder that ships."""
    from towers.embed import VectorCache
    from towers.text import TextConfig, TextEncoder

    encoder = TextEncoder.load(TextConfig(), weights=weights)
    texts = [text or None for text in catalog.texts(catalog.default_template())]
    return VectorCache().embed(encoder, texts, progress=True).vectors.numpy()


def _read_lists(comparison: Comparison, path: Path, users: IdList, catalog: Catalog) -> np.ndarray:
    """Lists int64 ``(M, K)`` of catalog rows for the test questions; what was set aside is told and noted."""
    from towers.errors import InputError
    from training.measuring.comparison import DEPTH
    from training.measuring.foreign import read_lists

    lists = read_lists(path, users, comparison.split.test, catalog, DEPTH)
    if not (lists.rows >= 0).any():
        why = ", ".join(f"{count:,} {reason}" for reason, count in lists.notes.items())
        raise InputError(
            f"{path} recommends nothing to the people asked about: {why}; its ids must be those of the log, "
            "its ranks or scores numbers"
        )
    for reason, count in lists.notes.items():
        tell(f"{path}: {count:,} {reason}")
    comparison.notes[path.stem] = lists.notes
    return lists.rows


def _add_ours(comparison: Comparison, catalog: Catalog, model: TwoTower) -> None:
    from indexing.build import build_index
    from training.measuring.comparison import OURS
    from training.ranker import IndexRanker

    tell("twotower: building the index")
    index = build_index(model, catalog)
    tell("twotower: asking")
    comparison.add_stages(OURS, IndexRanker(model, index, catalog, log=comparison.split.refit))


def _show(comparison: Comparison, as_json: bool) -> None:
    from rich.console import Console

    from training.measuring.table import results_table

    differences = comparison.differences()
    if as_json:
        values = {"protocol": comparison.protocol, "rows": comparison.rows, "differences": differences}
        typer.echo(dumps({**values, "notes": comparison.notes}))
        return
    screen = Console() if sys.stdout.isatty() else Console(width=WIDE)
    for split in dict.fromkeys(row["split"] for row in comparison.rows):
        rows = [row for row in comparison.rows if row["split"] == split]
        screen.print(results_table(rows, metrics=COLUMNS, title=split))
    for one in differences:
        value, low, high = one["difference"]
        screen.print(
            f"{one['ours']} − {one['theirs']}, {one['metric']}: {value:+.3f} (95 % interval {low:+.3f} to {high:+.3f})"
        )
    if given := comparison.notes.get("given"):
        late, asked = given["with later events in training"], given["asked about"]
        screen.print(
            f"{late:,} of {asked:,} people asked about have events in training after their first test event"
            + (": what comes next for them is partly known" if late else "")
        )
