"""docs/http.md: its client and its curl lines are answered, and its limits are those that ship."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from serving.web.limits import Limits
from tests.serving.web.conftest import picture

TEXT = (Path(__file__).parents[3] / "docs" / "http.md").read_text("utf-8")


def snippets(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def here(text: str, address: str) -> str:
    """With the people and items of the small world."""
    for name, other in {"localhost:8000": address[7:], "u42": "7", "i17": "m17", "i3": "m03", "year": "topic"}.items():
        text = text.replace(name, other)
    return text.replace("1990", '"a"')


def test_its_client_runs(address: str, capsys: pytest.CaptureFixture[str], store: Any) -> None:
    (client,) = snippets("python")
    exec(here(client, address), {})
    assert "because of" in capsys.readouterr().out
    assert [one.id for one in store.history(7)] == ["7f3b"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_its_curl_lines_are_answered(address: str, tmp_path: Path) -> None:
    (tmp_path / "cover.jpg").write_bytes(picture())
    lines = re.findall(r"^curl .*?(?<!\\)$", snippets("sh")[1], re.MULTILINE | re.DOTALL)
    assert len(lines) == 7
    for line in lines:
        done = subprocess.run(here(line, address), shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
        told = json.loads(done.stdout)
        if "cover.jpg" in line:  # this model reads no pictures
            assert told["error"].startswith("this model has no encoder of image")
        else:
            assert "error" not in told, line


def test_its_limits_are_those_that_ship(tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text(re.sub(r"^   ", "", re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)[0]))
    assert Limits.read(tmp_path / "limits.toml") == Limits()
