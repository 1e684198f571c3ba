"""docs/serving.md: what it says of reasons runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")


def test_the_snippet_of_reasons_runs(tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import polars as pl

    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("runs/m1").symlink_to(tiny_run.model_folder.parent)
    log = pl.read_csv(tiny_run.events).with_columns(pl.format("u{}", "user_id").alias("user_id"))
    log.write_parquet("interactions.parquet")
    (snippet,) = re.findall(r"```python\n(.*?)```", TEXT[TEXT.index("# Reasons") :].split("\n# ")[0], re.DOTALL)
    scope: dict[str, Any] = {"catalog": tiny_run.catalog}
    exec(snippet.replace('read("interactions.parquet")', 'read("interactions.parquet", rating_range=(1, 5))'), scope)
    reason = scope["reason"]
    assert reason.item == scope["best"].item
    assert reason.place == 1
    assert reason.named()
    assert len(reason.counterfactuals) == 3
