"""The steps of a recipe: a list in a TOML file, each a table with a name and settings."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from serving.rerank.calibration import Calibration
from serving.rerank.contract import Step
from serving.rerank.diversity import Dpp, MaxSum, Mmr
from serving.rerank.exploration import EpsilonGreedy, Thompson
from serving.rerank.rules import Block, Floor, Only, Pin, Quota
from serving.rerank.scores import Novelty, Rating
from towers.errors import InputError
from towers.tables import missing_name

STEPS: dict[str, type[Step]] = {
    step.name: step
    for step in (
        Block,
        Only,
        Rating,
        Novelty,
        Mmr,
        Dpp,
        MaxSum,
        Calibration,
        Pin,
        Quota,
        Floor,
        EpsilonGreedy,
        Thompson,
    )
}
DEFAULT: tuple[Step, ...] = (Rating(),)

Steps = str | Path | Sequence[Step | Mapping[str, Any]] | None
"""What `read_steps` makes steps of."""


def read_steps(source: Steps) -> tuple[Step, ...]:
    """Steps from a TOML file, from a list, or the default ones: re-ranking by rating alone.

    A file has a table for each step, ``[[steps]]`` with its ``name`` and its settings; in a list, dictionaries say the
    same, and stand beside steps as they like.

    Raises:
        InputError: the file cannot be read, a step or a setting is unknown (the nearest valid one is named), or a
            value is out of range.
    """
    if source is None:
        return DEFAULT
    if isinstance(source, str | Path):
        return tuple(_read(values, f"{source}: step {number}") for number, values in enumerate(_tables(source), 1))
    steps = []
    for number, one in enumerate(source, start=1):
        steps.append(one if isinstance(one, Step) else _read(one, f"step {number}"))
    return tuple(steps)


def _tables(path: str | Path) -> list[Any]:
    try:
        values = tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"the steps {path} cannot be read: {error}") from error
    others = [name for name in values if name != "steps"]
    if others:
        raise InputError(f"{path} {missing_name('key', others[0], ['steps'])}")
    tables = values.get("steps", [])
    if not isinstance(tables, list):
        raise InputError(f"{path}: steps are written as [[steps]], a table for each")
    return tables


def _read(values: Any, where: str) -> Step:
    if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
        raise InputError(f"{where}: expected a name and settings, such as name = 'mmr', weight = 0.3; got {values!r}")
    name = values["name"]
    if name not in STEPS:
        raise InputError(f"{where}: re-ranking {missing_name('step', name, STEPS)}")
    given = {key: value for key, value in values.items() if key != "name"}
    try:
        return TypeAdapter(STEPS[name]).validate_python(given)
    except ValidationError as error:
        raise InputError(f"{where} ({name}): " + "; ".join(_explain(STEPS[name], e) for e in error.errors())) from error


def _explain(step: type[Step], error: Any) -> str:
    setting = ".".join(map(str, error["loc"]))
    if error["type"] == "unexpected_keyword_argument":
        return f"it {missing_name('setting', setting, signature(step).parameters)}"
    if error["type"] == "missing":
        return f"{setting} is missing"
    return f"{setting}: {error['msg']}, got {error['input']!r}" if setting else error["msg"]
