"""python -m benchmarks.resume [--kills 20] [--save]

Does a training that was killed end with the same weights? `twotower train` on a part of MovieLens-100K with both
readers: once left alone, then so many times killed (SIGKILL) at a random moment and started again. Two run side by
side, one thread each; every step writes a checkpoint, so that many a kill falls into the writing of one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.record import Record
from towers.artefact import read_manifest
from towers.model import KIND
from towers.movielens import movielens_100k
from training.checkpoint import checkpoint_folder

PEOPLE, MOST_EVENTS = 60, 60
RECIPE = """
item.template = "{title}[ ({year})][. {genres}]"
user.sequence.blocks = 1
user.text = {tune = 1, history = {budget = 32, item_budget = 10}}
rating.range = [1, 5]
train = {epochs = 11, text_epochs = 3, evaluate_every = 4, batch_people = 12, anchors = 2, anchors_per_step = 1, \
sentences = 16, checkpoint_seconds = 0}
"""
ROOT = Path(__file__).parents[1]
SIDE_BY_SIDE = 2


@dataclass(frozen=True)
class Killed:
    """A training that was killed and started again.

    Args:
        after: seconds from its start to the kill.
        went_on: where the second start said that it goes on.
        differs: in what it left something else than the one left that nobody killed: keys of the manifest.
    """

    after: float
    went_on: str
    differs: list[str]


class Trainings:
    """The same training again and again, each with a folder of its own in `folder`; a first one that nobody kills."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        _write_data(folder)
        whole, started = self._start("whole"), time.perf_counter()
        while not checkpoint_folder(self._out("whole")).exists() and whole.poll() is None:
            time.sleep(0.01)
        self.first = time.perf_counter() - started
        said = whole.communicate()[1]
        if whole.returncode:
            raise SystemExit(f"the training failed: {said}")
        self.seconds = time.perf_counter() - started
        self._whole = self._left("whole")

    def killed(self, name: str, rng: np.random.Generator) -> Killed:
        """Kill one after its first checkpoint, at a moment that `rng` chooses, and start it again."""
        while True:
            process, started = self._start(name), time.perf_counter()
            while not checkpoint_folder(self._out(name)).exists() and process.poll() is None:
                time.sleep(0.01)
            time.sleep(rng.random() * (self.seconds - self.first))
            after = time.perf_counter() - started
            process.kill()
            process.communicate()
            if checkpoint_folder(self._out(name)).exists():
                break  # else it was done already, and the next one is killed at another moment
        again = self._start(name)
        said = again.communicate()[1]
        places = [line.split(" (")[0] for line in said.splitlines() if line.startswith("going on from")]
        went_on = places[0].removeprefix("going on from ") if places else "the beginning"
        if again.returncode:
            return Killed(after, went_on, [f"failed: {said}"])
        left = self._left(name)
        return Killed(after, went_on, [key for key, value in self._whole.items() if left[key] != value])

    def _start(self, name: str) -> subprocess.Popen[str]:
        files = {"--catalog": "items.csv", "--interactions": "events.csv", "--recipe": "recipe.toml"}
        options = [part for option, file in files.items() for part in (option, str(self._folder / file))]
        return subprocess.Popen(
            [sys.executable, "-m", "twotower", "train", *options, "--out", str(self._out(name))],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _out(self, name: str) -> Path:
        return self._folder / name / "model"

    def _left(self, name: str) -> dict[str, Any]:
        """Checksums of all files, fingerprints and the report, without dates and times."""
        manifest = read_manifest(self._out(name), KIND)
        epochs = [{**entry, "seconds": None} for entry in manifest["training"]["epochs"]]
        report = {**manifest["training"], "seconds": None, "epochs": epochs}
        return {**manifest, "created": None, "training": report}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how many trainings are killed")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    options = parser.parse_args()
    record, screen = Record("resume"), Console(stderr=True)
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        trainings = Trainings(Path(scratch))
        screen.print(f"left alone: {trainings.seconds:.0f} s, the first checkpoint after {trainings.first:.0f} s")
        jobs = [pool.submit(trainings.killed, f"killed-{n}", np.random.default_rng(n)) for n in range(options.kills)]
        killed = [job.result() for job in jobs]
    table = Table("killed after, s", "went on from", "what differs")
    for one in killed:
        table.add_row(f"{one.after:.1f}", one.went_on, ", ".join(one.differs) or "nothing")
    screen.print(table)
    metrics = {"kills": len(killed), "different": sum(bool(one.differs) for one in killed)}
    record.rows = [{"method": "twotower", "split": f"{PEOPLE}-people", "seed": 0, "metrics": metrics}]
    record.notes = {"went_on_from": [one.went_on for one in killed]}
    record.finish(save=options.save)


def _write_data(folder: Path) -> None:
    """The newest events of the first people, all films, and the recipe."""
    catalog, log = movielens_100k(progress=False)
    events = pl.DataFrame(pl.from_arrow(log.table)).filter(pl.col("user_id") <= PEOPLE)
    newest = events.sort("timestamp", maintain_order=True).group_by("user_id", maintain_order=True).tail(MOST_EVENTS)
    columns = ("user_id", "item_id", "timestamp", (pl.col("rating") * 4 + 1).alias("rating"))
    newest.select(*columns).write_csv(folder / "events.csv")
    pl.DataFrame(pl.from_arrow(catalog.table)).write_csv(folder / "items.csv")
    (folder / "recipe.toml").write_text(RECIPE, "utf-8")


if __name__ == "__main__":
    main()
