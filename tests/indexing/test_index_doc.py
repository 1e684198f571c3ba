"""docs/index.md: its snippets run, one after the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "index.md").read_text("utf-8")


def test_its_snippets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    snippets = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    for snippet in snippets:
        exec(snippet, scope)
    assert len(snippets) == 9
    assert capsys.readouterr().out.splitlines()[-1].startswith("Drift(items=998, added=1, dropped=2, cosine=")


def test_the_files_that_it_names_are_those_of_an_index(tmp_path: Path) -> None:
    from indexing import storage, versions

    (tree,) = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)
    files = {storage.VECTORS, storage.IDS, storage.FAISS, storage.ATTRIBUTES, storage.REMOVED, storage.PLACES}
    assert set(re.findall(r"[a-z]+\.(?:npy|parquet|faiss)", tree)) == files
    assert {versions.CURRENT, versions.VERSIONS, *versions.OTHERS} <= set(re.findall(r"[A-Za-z]+", tree))
