"""The data side of a step is timed where it is spent."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks import input_pipeline
from benchmarks.input_pipeline import Case, _timed, run_case


def test_a_timed_method_tells_its_seconds_and_gives_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def double(self, value: int) -> int:
            time.sleep(0.02)
            return 2 * value

    passed = _timed(Slow, "double")
    assert [Slow().double(n) for n in (1, 2)] == [2, 4]
    assert 0.04 <= passed() < 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sampled", "both readers"])
def test_a_million_rows(data_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(input_pipeline, "STEPS", 2)
    cost = run_case(Case(name, 1.0, data_dir))
    assert cost.rows == 999_601
    assert 0 < sum(cost.data.values()) < 0.15 * cost.seconds
