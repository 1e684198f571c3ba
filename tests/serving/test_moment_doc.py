"""docs/serving.md: what it says of the store, the moment and someone new runs, one snippet after the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from indexing.build import build_index
from serving.moment import LESS, RECENT
from serving.store.event import KINDS
from towers.catalog import Catalog

TEXT = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")
PART = TEXT[TEXT.index("# Listening back") : TEXT.index("# Reasons")]


def test_its_snippets_run(tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pl.DataFrame(tiny_run.catalog.table).with_columns(pl.col("item_id").str.replace("m0?", "i")).write_parquet(
        "items.parquet"
    )
    events = pl.read_csv(tiny_run.events).with_columns(pl.col("item_id").str.replace("m0?", "i"))
    events.with_columns(pl.format("u{}", "user_id").alias("user_id")).write_parquet("interactions.parquet")
    tiny_run.model.save("runs/m1/model")
    build_index(tiny_run.model, Catalog.read("items.parquet"), out="runs/m1/index", progress=False)
    scope: dict[str, Any] = {}
    snippets = re.findall(r"```python\n(.*?)```", PART, re.DOTALL)
    for snippet in snippets:
        exec(snippet, scope)
    assert len(snippets) == 5


def test_what_it_says_is_so() -> None:
    assert set(re.findall(r"^\| `([a-z-]+)` \|", PART, re.MULTILINE)) == set(KINDS)
    assert f"The newest {RECENT:,} events" in PART
    assert LESS == 0.5
    assert "by half of it" in PART
