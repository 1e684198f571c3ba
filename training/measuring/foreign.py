"""Lists that another library recommends, made ready to be scored beside ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from towers.catalog import Catalog
from towers.columns import read_numbers
from towers.ids import IdList
from towers.interactions import ITEM_ID, USER_ID
from towers.rejected import Loaded
from towers.tables import read_table, without_missing
from training.measuring.splits import Questions


@dataclass(frozen=True)
class Lists:
    """Ranked lists for M questions.

    Args:
        rows: int64 ``(M, K)`` catalog rows, -1 where a list ends early.
        notes: how many entries or people were set aside, by reason; only reasons that occurred.
    """

    rows: np.ndarray
    notes: dict[str, int]


def read_lists(source: Any, users: IdList, questions: Questions, catalog: Catalog, k: int) -> Lists:
    """Lists from a table with a row for each recommendation.

    A person's rows are ordered by the column ``rank`` (from small), else by ``score`` (from large), else as they stand.
    Numbers may be written as text; rows without a number there are set aside.
    Entries that no ranker may return are set aside and the rest moves up: items that the catalog lacks, that the list
    has named before, or that the person has met.

    Args:
        source: Parquet, CSV, TSV or JSON lines file, or a frame, with ``user_id`` and ``item_id``.
        users: the people of the log, as `questions` counts them.
        questions: M questions.
        catalog: N items.
        k: width of the lists.

    Raises:
        InputError: a source that cannot be read, without one of the columns, or with a rank or score of another type.
    """
    loaded = without_missing(without_missing(read_table(source, ids=(USER_ID, ITEM_ID)), USER_ID), ITEM_ID)
    notes = {"rows without an id": loaded.rejected.count}
    order = next((name for name in ("rank", "score") if name in loaded.table.column_names), None)
    if order is not None:
        loaded = _numbered(loaded, order)
        notes[f"rows whose {order} is no number"] = loaded.rejected.count - notes["rows without an id"]
    asked = np.full(len(users), -1)
    asked[questions.people] = np.arange(len(questions))
    people = users.rows(loaded.table[USER_ID])
    question = np.where(people >= 0, asked[people], -1)
    frame = pl.DataFrame({"question": question, "item": catalog.rows(loaded.table[ITEM_ID])})
    if order is not None:
        by = pl.Series("by", loaded.table[order])
        frame = frame.with_columns(by).sort("by", descending=order == "score", maintain_order=True)
    frame = _keep(frame, pl.col("question") >= 0, "rows of people who are not asked about", notes)
    frame = _keep(frame, pl.col("item") >= 0, "items that the catalog lacks", notes)
    frame = _keep(frame, pl.struct("question", "item").is_first_distinct(), "items named twice in a list", notes)
    frame = _keep(frame, pl.lit(~_met(frame, questions)), "items that the person has met", notes)
    rows = _wide(frame, len(questions), k)
    notes["people with fewer items than are looked at"] = int((rows[:, -1] < 0).sum())
    return Lists(rows, {reason: count for reason, count in notes.items() if count})


def _numbered(loaded: Loaded, name: str) -> Loaded:
    """The rows with a number in this column; NaN is none, and would sort before the best score."""
    loaded = read_numbers(loaded, name)
    return loaded.without(pl.Series(loaded.table[name]).fill_nan(None).is_null().to_numpy(), f"{name} is missing")


def _keep(frame: pl.DataFrame, good: pl.Expr, reason: str, notes: dict[str, int]) -> pl.DataFrame:
    kept = frame.filter(good)
    notes[reason] = len(frame) - len(kept)
    return kept


def _met(frame: pl.DataFrame, questions: Questions) -> np.ndarray:
    """bool ``(R,)`` whether the item of each row is in the person's history."""
    histories = questions.histories
    question, item = frame["question"].to_numpy(), frame["item"].to_numpy()
    span = 1 + max(item.max(initial=0), histories.items.max(initial=0))
    return np.isin(question * span + item, histories.people * span + histories.items)


def _wide(frame: pl.DataFrame, count: int, k: int) -> np.ndarray:
    """Rows ``(count, k)`` from one line for each entry, in order within a question."""
    place = frame.select(pl.int_range(pl.len()).over("question")).to_series().to_numpy()
    question, item = frame["question"].to_numpy(), frame["item"].to_numpy()
    rows = np.full((count, k), -1, np.int64)
    shown = place < k
    rows[question[shown], place[shown]] = item[shown]
    return rows
