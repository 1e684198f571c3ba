"""The README's figures are those of the record."""

from __future__ import annotations

from pathlib import Path

from benchmarks.readme import INDEX, RECORD, further, index, measured, with_tables

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
    assert "| `a` − `b` | leave-one-out | 1 | recall@20 | +0.050 (+0.010 to +0.090) |" in text
    assert "2 minutes, commit abc" in text


def test_further_protocols_have_a_table_each() -> None:
    found = {"recall@20": [0.3, 0.25, 0.35], "recall@20/cold": [0.1, 0.05, 0.15]}
    rows = [
        {"method": "ours", "split": "temporal", "seed": 0, "metrics": found},
        {"method": "ours", "split": "cold-items", "seed": 0, "metrics": found},
        {"method": "ours", "split": "cold-items-among-168", "seed": 0, "metrics": {"recall@20/cold": [0.5, 0.4, 0.6]}},
        {"method": "ours", "split": "reranking-end-to-end", "seed": 0, "metrics": {"graded-ndcg@10": 0.2, "weight": 0}},
    ]
    difference = {"metric": "recall@20/cold", "split": "cold-items", "seed": 0, "ours": "a", "theirs": "b"}
    record = {"command": "x", "machine": "m", "seconds": 60.0, "commit": "abc", "date": "2026-01-02", "rows": rows}
    text = further({**record, "differences": [{**difference, "difference": [0.05, 0.01, 0.09]}]})
    assert "| `ours` | 0 | 0.300 (0.250–0.350) |\n" in text
    assert "| `ours` | 0 | 0.300 (0.250–0.350) | 0.100 (0.050–0.150) |" in text
    assert "| `ours` | cold-items-among-168 | 0 | 0.500 (0.400–0.600) | – |" in text
    assert "| `ours` | reranking-end-to-end | 0 | 0.200 | 0.000 |" in text
    assert "| `a` − `b` | cold-items | 0 | recall@20/cold | +0.050 (+0.010 to +0.090) |" in text


def test_the_life_of_an_index_is_summed_over_kinds() -> None:
    def record(name: str) -> dict:
        metrics = dict.fromkeys(INDEX[name][1].split(), 0)
        first = next(iter(metrics))
        rows = [{"split": "generated", "metrics": {**metrics, first: 1000}}] * 2 + [{"split": "wear", "metrics": {}}]
        return {"command": f"python -m {name}", "commit": "abc", "date": "2026-01-02", "rows": rows}

    lines = index({name: record(name) for name in INDEX}).splitlines()
    assert "2,000 operations, 0 differences | abc, 2026-01-02 |" in lines[-3]
    assert "2,000 kills, 0 lost, 0 duplicated, 0 wrong" in lines[-2]
    assert "2,000 files, 0 crashes, 0 wrong answers" in lines[-1]
