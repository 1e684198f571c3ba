"""How a benchmark ends: a table for people, one JSON line for programs, and a file in ``results/``."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from towers.errors import InputError
from twotower.machine import machine

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("torch", "transformers", "accelerate", "faiss-gpu", "faiss-cpu", "numpy", "implicit")


class Record:
    """Collects what a run found and writes it down.

    Args:
        bench: name of the benchmark, as in ``twotower bench NAME``.
    """

    def __init__(self, bench: str) -> None:
        self.bench = bench
        self.started = time.perf_counter()
        self.rows: list[dict[str, Any]] = []
        self.notes: dict[str, Any] = {}

    def finish(self, *, save: bool) -> None:
        """Print the JSON line, last on standard output, and with `save` keep it with all facts in a file."""
        facts = {
            "bench": self.bench,
            "commit": commit(),
            "machine": machine(),
            "seconds": round(time.perf_counter() - self.started, 1),
            "rows": self.rows,
        }
        if save:
            kept = {
                **facts,
                "date": datetime.now(UTC).strftime("%Y-%m-%d"),
                "command": "python -m "
                + " ".join([f"benchmarks.{Path(sys.argv[0]).stem}", *map(_public, sys.argv[1:])]),
                "versions": versions(),
                **self.notes,
            }
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"{self.bench}.json").write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
        print(json.dumps(facts), flush=True)


def plain(values: Iterable[float]) -> list[float]:
    """Figures, such as one with its interval, as they stand in a record."""
    return [round(value, 6) for value in values]


def protocol(doc: str | None) -> str:
    """What a benchmark does, from the text of its module, on one line and without the command in its first line."""
    return " ".join((doc or "").split()).partition("--save] ")[2]


def read_record(path: Path) -> dict[str, Any]:
    """A record that a run has kept.

    Raises:
        InputError: not JSON, or without a bench and rows that have a method and metrics.
    """
    again = "run its benchmark again with --save, or remove the file"
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not readable JSON ({error}): {again}") from error
    if not isinstance(record, dict) or not isinstance(record.get("bench"), str):
        raise InputError(f"{path} is not a record, it does not name its bench: {again}")
    rows = record.get("rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and _is_row(row) for row in rows):
        raise InputError(f"{path} is not a record, it has no list of rows with a method and metrics each: {again}")
    return record


def commit() -> str:
    """Short hash of the checkout, with a plus sign where files differ from it."""
    try:
        name = _git("rev-parse", "--short", "HEAD")
        return name + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def versions() -> dict[str, str]:
    """Versions of the packages that decide figures, those that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except ModuleNotFoundError:
            continue
    return found


def _is_row(row: dict[str, Any]) -> bool:
    return isinstance(row.get("method"), str) and isinstance(row.get("metrics"), dict)


def _public(argument: str) -> str:
    """An argument without the folders of this machine."""
    return "DIR" if "/" in argument else argument


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
