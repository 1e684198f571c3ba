"""The README's figures, and those of docs/measured.md, are those of the records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import readme
from benchmarks.measured import further, measured, missing, page, part
from benchmarks.readme import (
    HEADLINES,
    MEASURED,
    README,
    TRIALS,
    Headline,
    Trial,
    headlines,
    searches,
    trials,
    with_table,
)

FACTS = {"command": "python -m x", "machine": "2 cores", "seconds": 120.0, "commit": "abc", "date": "2026-01-02"}


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Keeps a record where the README's tables are made from."""
    monkeypatch.setattr(readme, "RESULTS", tmp_path)

    def keep(name: str, rows: list[dict[str, Any]], **notes: Any) -> None:
        (tmp_path / f"{name}.json").write_text(json.dumps({"bench": name, **FACTS, "rows": rows, **notes}), "utf-8")

    return keep


def test_the_readme_is_what_the_records_say() -> None:
    text = README.read_text("utf-8")
    assert with_table(text) == text, "run python -m benchmarks.readme"
    assert all(one.record in text for one in (*HEADLINES, *TRIALS))


def test_the_document_is_what_the_records_say() -> None:
    assert MEASURED.read_text("utf-8") == page(), "run python -m benchmarks.readme"


def test_a_headline_has_both_figures_and_what_lies_between(kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"a": [0.3, 0.25, 0.35], "b": [0.2, 0.15, 0.25]}
    rows = [
        {"method": name, "split": split, "seed": 0, "metrics": {"recall@20": value if split == "asked" else 0.9}}
        for split in ("other", "asked")
        for name, value in found.items()
    ]
    names = {"metric": "recall@20", "split": "asked", "ours": "a", "theirs": "b"}
    differences = [{**names, "seed": seed, "difference": [0.1 + seed, 0.05, 0.15]} for seed in (0, 1)]
    kept("one", rows, differences=differences, published={"a paper": {"recall@20": 0.25}})
    monkeypatch.setattr(
        readme,
        "HEADLINES",
        (
            Headline("Asked", "one", "asked", "recall@20", "a", "b"),
            Headline("Published", "one", "asked", "recall@20", "a", "a paper"),
            Headline("Never run", "two", "asked", "recall@20", "a", "b"),
        ),
    )
    told = "| 0.300 (0.250–0.350) | 0.200 (0.150–0.250) `b` | +0.100 (+0.050 to +0.150) | one, abc |"
    assert headlines().splitlines()[2:] == [
        f"| Asked | recall@20 {told}",
        "| Published | recall@20 | 0.300 (0.250–0.350) | 0.250 `a paper` | – | one, abc |",
    ]


def test_a_trial_is_summed_over_the_rows_that_count(kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = {"split": "generated", "method": "a", "seed": 0, "metrics": {"kills": 1000, "wrong_answers": 0}}
    kept("one", [counted, counted, {**counted, "split": "wear", "metrics": {"kills": 7}}])
    monkeypatch.setattr(readme, "TRIALS", (Trial("killed", "one", ("kills", "wrong_answers"), ("generated",)),))
    assert trials().splitlines()[2:] == ["| killed | 2,000 kills, 0 wrong answers | one, abc |"]


def test_searches_hold_the_best_of_the_grid_at_each_recall(kept: Any) -> None:
    def row(method: str, split: str, **metrics: float) -> dict[str, Any]:
        named = {f"qps@.{recall[1:]}": value for recall, value in metrics.items()}
        return {"method": method, "split": split, "seed": 0, "metrics": named}

    one, two = readme.SEARCHED
    rows = [row("twotower", one, r90=1500.0, r95=900.4), row("twotower", two, r99=7.0)]
    rows += [row("faiss HNSW16", one, r90=100.0, r95=50.0), row("faiss IVF8,Flat", one, r90=90.0, r95=60.0)]
    kept("ann", [*rows, row("peer", two, r99=3.0)])
    assert searches().splitlines()[2:] == [
        "| `twotower` | 1,500 | 900 | – | – | – | 7 |",
        "| the best FAISS index of a grid, called bare | 100 | 60 | – | – | – | – |",
        "| `peer` | – | – | – | – | – | 3 |",
        "",
        "Record: ann, abc.",
    ]


def test_a_table_holds_values_and_intervals() -> None:
    row = {
        "method": "ours",
        "split": "leave-one-out",
        "seed": 1,
        "metrics": {"recall@20": [0.3, 0.25, 0.35], "gini@20": 0.5},
    }
    record = {
        **FACTS,
        "protocol": "p",
        "rows": [row, {**row, "split": "ratings", "metrics": {"rmse": [0.9, 0.8, 1.0]}}],
        "differences": [
            {"metric": "recall@20", "seed": 1, "ours": "a", "theirs": "b", "difference": [0.05, 0.01, 0.09]}
        ],
    }
    text = measured(record)
    assert "| `ours` | 1 | 0.300 (0.250–0.350) | – | – | – | 0.500 | – |" in text
    assert "| `ours` | 1 | 0.900 (0.800–1.000) | – |" in text
    assert "| `a` − `b` | leave-one-out | 1 | recall@20 | +0.050 (+0.010 to +0.090) |" in text
    assert "2 minutes, commit abc" in text


def test_models_that_were_kept_are_told_with_the_time_of_their_trainings() -> None:
    record = {**FACTS, "protocol": "p", "rows": [], "published": {}, "jobs": {"a": {"seconds": 180.0}, "b": {}}}
    assert "2 minutes, commit abc" in part(record, "A title", ("recall@20",))  # three of two cores for two minutes
    record["jobs"]["b"]["seconds"] = 240.0
    told = part(record, "A title", ("recall@20",))
    assert "2 minutes after at least 7 of training, whose models were kept, commit abc" in told
    assert "published on these files" not in told
    assert "Paired differences" not in told


def test_what_is_missing_is_a_curve_for_each_kind_and_method() -> None:
    values = {"text": (0.4, 0.3), "all": (0.4, 0.2)}
    rows = [
        {"method": name, "split": f"missing-{kind}-{share}", "metrics": {"recall@20": [value - less, 0.1, 0.5]}}
        for kind, figures in values.items()
        for share, value in zip((0, 50), figures, strict=True)
        for name, less in (("ours", 0.0), ("zeros", 0.1))
    ]
    halves = {"text": {"quotient": [0.25, 0.1, 0.3]}, "all": {"quotient": None}}
    told = missing({**FACTS, "protocol": "p", "rows": rows, "lost": {"ours": {"at 50 %": halves}}}, "A title")
    assert "| missing | method | 0 % | 50 % |" in told
    assert "| text | `zeros` | 0.300 (0.100–0.500) | 0.200 (0.100–0.500) |" in told
    assert "| all | `ours` | 0.400 (0.100–0.500) | 0.200 (0.100–0.500) |" in told
    assert told.endswith("`ours` text 0.250 (0.100–0.300); `ours` all –.")


def test_further_protocols_have_a_table_each() -> None:
    found = {"recall@20": [0.3, 0.25, 0.35], "recall@20/cold": [0.1, 0.05, 0.15]}
    rows = [
        {"method": "ours", "split": "temporal", "seed": 0, "metrics": found},
        {"method": "ours", "split": "cold-items", "seed": 0, "metrics": found},
        {"method": "ours", "split": "cold-items-among-168", "seed": 0, "metrics": {"recall@20/cold": [0.5, 0.4, 0.6]}},
        {"method": "ours", "split": "reranking-end-to-end", "seed": 0, "metrics": {"graded-ndcg@10": 0.2, "weight": 0}},
    ]
    difference = {"metric": "recall@20/cold", "split": "cold-items", "seed": 0, "ours": "a", "theirs": "b"}
    text = further({**FACTS, "rows": rows, "differences": [{**difference, "difference": [0.05, 0.01, 0.09]}]})
    assert "| `ours` | 0 | 0.300 (0.250–0.350) |\n" in text
    assert "| `ours` | 0 | 0.300 (0.250–0.350) | 0.100 (0.050–0.150) |" in text
    assert "| `ours` | cold-items-among-168 | 0 | 0.500 (0.400–0.600) | – |" in text
    assert "| `ours` | reranking-end-to-end | 0 | 0.200 | 0 |" in text
    assert "| `a` − `b` | cold-items | 0 | recall@20/cold | +0.050 (+0.010 to +0.090) |" in text
