"""docs/serving.md: what it says of re-ranking runs, one snippet after the other."""

from __future__ import annotations

import re
from inspect import signature
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from indexing.build import build_index
from serving.rerank.recipe import STEPS, read_steps
from towers.catalog import Catalog

TEXT = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")
PART = TEXT[TEXT.index("# Re-ranking, step by step") :]


def snippets(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", re.split(r"\n# ", PART[1:])[0], re.DOTALL)


def test_its_snippets_run(
    tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    films = pl.DataFrame(tiny_run.catalog.table).with_columns(
        pl.col("item_id").str.replace("m0?", "i"),
        genres=pl.Series([["Horror"] if row % 9 == 0 else ["Drama"] for row in range(40)]),
        year=pl.Series(range(1950, 1990)),
    )
    events = pl.read_csv(tiny_run.events)
    users = pl.col("user_id").replace_strict({7: "u42"}, default=pl.format("u{}", "user_id"), return_dtype=pl.String)
    events = events.with_columns(users, pl.col("item_id").str.replace("m0?", "i"))
    films.write_parquet("items.parquet")
    events.write_parquet("interactions.parquet")
    tiny_run.model.save("runs/m1/model")
    build_index(tiny_run.model, Catalog.read("items.parquet"), out="runs/m1/index", progress=False)
    (recipe,) = snippets("toml")
    Path("steps.toml").write_text(recipe)
    assert [step.name for step in read_steps("steps.toml")] == ["rating", "mmr", "floor"]
    scope: dict[str, Any] = {}
    for snippet in snippets("python"):
        exec(snippet, scope)
    lines = capsys.readouterr().out.splitlines()
    assert lines[5] == "('block', 'rating', 'novelty', 'mmr', 'pin')"
    assert lines[6].startswith("Estimate(value=")
    assert scope["answer"][0].item == "i17"


def test_every_step_is_told() -> None:
    for name, step in STEPS.items():
        line = next(line for line in PART.splitlines() if line.startswith("| ") and f"`{name}`" in line.split("|")[1])
        for setting in signature(step).parameters:
            assert f"`{setting}`" in line
