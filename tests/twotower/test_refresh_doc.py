"""docs/refresh.md names options and figures as they are."""

from __future__ import annotations

import re
from inspect import signature
from pathlib import Path

from twotower import refresh, releases
from twotower.commands import refreshing

TEXT = (Path(__file__).parents[2] / "docs" / "refresh.md").read_text("utf-8")


def test_its_options_and_figures_are_those_of_the_code() -> None:
    options = {f"--{name.replace('_', '-')}" for name in signature(refreshing.refresh).parameters}
    commands = [line for line in TEXT.splitlines() if "twotower refresh " in line]
    assert len(commands) == 6
    for line in commands:
        assert set(re.findall(r"--[a-z-]+", line)) <= options
    assert (refresh.NEWEST, refresh.LEAST, refresh.MOST_LOST) == (0.3, 10, 0.1)
    for said in ("newest three tenths", "fewer\n   than 10 people", "more than a tenth", "passes (2)"):
        assert said in TEXT
    assert signature(refresh.refresh).parameters["epochs"].default == 2
    assert f"{releases.CURRENT} -> {releases.RELEASES}/000002" in TEXT
