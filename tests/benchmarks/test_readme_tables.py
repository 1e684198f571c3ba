"""The README's figures are those of the record."""

from __future__ import annotations

from pathlib import Path

from benchmarks.readme import RECORD, measured, with_tables

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_is_what_the_record_says() -> None:
    text = README.read_text("utf-8")
    assert RECORD.is_file()
    assert with_tables(text) == text, "run python -m benchmarks.readme"


def test_a_table_holds_values_and_intervals() -> None:
    row = {
        "method": "ours",
        "split": "leave-one-out",
        "seed": 1,
        "metrics": {"recall@20": [0.3, 0.25, 0.35], "gini@20": 0.5},
    }
    record = {
        "command": "python -m x",
        "machine": "2 cores",
        "seconds": 120.0,
        "commit": "abc",
        "date": "2026-01-02",
        "protocol": "p",
        "rows": [row, {**row, "split": "ratings", "metrics": {"rmse": [0.9, 0.8, 1.0]}}],
        "differences": [
            {"metric": "recall@20", "seed": 1, "ours": "a", "theirs": "b", "difference": [0.05, 0.01, 0.09]}
        ],
    }
    text = measured(record)
    assert "| `ours` | 1 | 0.300 (0.250–0.350) | – | – | – | 0.500 | – |" in text
    assert "| `ours` | 1 | 0.900 (0.800–1.000) | – |" in text
    assert "| `a` − `b` | 1 | recall@20 | +0.050 (+0.010 to +0.090) |" in text
    assert "2 minutes, commit abc" in text
