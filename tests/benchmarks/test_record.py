"""Records keep what they are told."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from benchmarks import record as records
from benchmarks.record import Record, protocol

FACTS = {"bench", "commit", "machine", "seconds", "rows", "date", "command", "versions"}
FOLDER = Path(records.__file__).parent


def test_a_protocol_is_what_a_module_says_behind_its_command() -> None:
    assert protocol("python -m benchmarks.one [--seconds 30] [--save]\n\nHow many\nof what?\n") == "How many of what?"


def test_a_record_holds_facts_rows_and_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    record = Record("some")
    record.rows, record.notes = [{"method": "ours"}], {"protocol": "p"}
    record.finish(save=True)
    kept = json.loads((tmp_path / "some.json").read_text("utf-8"))
    assert kept.keys() == FACTS | {"protocol"}
    assert kept["rows"] == json.loads(capsys.readouterr().out)["rows"] == [{"method": "ours"}]


def test_no_note_hides_a_fact() -> None:
    """At the end of a long run it would be too late to say so."""
    found = 0
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Assign) or ast.unparse(node.targets[0]) != "record.notes":
                continue
            assert isinstance(node.value, ast.Dict), path
            names = {key.value for key in node.value.keys if isinstance(key, ast.Constant)}
            assert not names & FACTS, path
            found += 1
    assert found >= 15
