"""`twotower train` killed for real, and interrupted: the same command ends what it began."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from towers.artefact import read_manifest
from towers.model import KIND
from training.loop import Run
from training.trainer import train
from twotower.cli import main

ROOT = Path(__file__).resolve().parents[2]
FORKING = """
import os, sys
import training.trainer, twotower.cli
while sys.stdin.readline():
    child = os.fork()
    if not child:
        twotower.cli.main()
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
TRAIN = (
    "train = {epochs = 12, text_epochs = 6, evaluate_every = 2, batch_people = 16, sentences = 8, "
    "patience = 9, checkpoint_seconds = 0}\n"
)
FIRST, SECOND = 5, 16  # steps, one in each phase of 12


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def command(tiny_run: Any, folder: Path) -> list[str]:
    settings = [line for line in tiny_run.recipe.read_text("utf-8").splitlines() if not line.startswith("train")]
    (folder / "recipe.toml").write_text("\n".join(settings) + "\n" + TRAIN, "utf-8")
    data = ["--catalog", tiny_run.items, "--interactions", tiny_run.events]
    return ["train", *map(str, [*data, "--recipe", folder / "recipe.toml", "--out", folder / "runs/model"])]


class Forking:
    """Runs one command again and again, each time in a process of its own that does not have to import everything."""

    def __init__(self, arguments: list[str], cache: Path) -> None:
        settings = {**os.environ, "OMP_NUM_THREADS": "1", "TWOTOWER_CACHE": str(cache)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-c", FORKING, *arguments], cwd=ROOT, env=settings, **pipes)

    def start(self) -> int:
        """Process id."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> int:
        """Exit code, minus the signal that it was killed by."""
        return int(self.process.stdout.readline())


def wait_for(step: int, folder: Path) -> None:
    """Until the checkpoint of this step, or a later one, is there."""
    deadline = time.monotonic() + 60
    while not any(path.name.isdigit() and int(path.name) >= step for path in folder.glob("*")):
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_killed_in_each_phase_it_ends_with_the_same_weights(
    tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    cache = tmp_path / "cache"
    runs = Forking(command(tiny_run, tmp_path), cache)
    for step in (FIRST, SECOND):
        child = runs.start()
        wait_for(step, tmp_path / "runs/model.checkpoint")
        os.kill(child, signal.SIGKILL)
        assert runs.end() == -signal.SIGKILL
    assert not (tmp_path / "runs/model").exists()
    runs.start()
    assert runs.end() == 0
    said = runs.process.communicate()[1]
    epochs = [int(line.split()[4].strip(",")) for line in said.splitlines() if line.startswith("going on from epoch ")]
    assert epochs[0] <= 6 < epochs[1]  # one in each phase

    monkeypatch.setenv("TWOTOWER_CACHE", str(cache))
    train(tiny_run.catalog, tiny_run.log, recipe=tmp_path / "recipe.toml", out=tmp_path / "whole", progress=False)
    killed, whole = (read_manifest(tmp_path / name, KIND) for name in ("runs/model", "whole"))
    assert killed["model"] == whole["model"]
    assert killed["files"] == whole["files"]
    left = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert left == ["model", "model.rejected.jsonl", "tensorboard"]
    assert [path.name for path in (tmp_path / "runs/tensorboard").iterdir()] == ["model"]  # all three starts' curves


def test_ctrl_c_says_how_to_go_on(
    tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    step, calls = Run._step, []

    def interrupted(run: Run, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return step(run, *arguments)

    monkeypatch.setattr(Run, "_step", interrupted)
    monkeypatch.setattr(sys, "argv", ["twotower", *command(tiny_run, tmp_path)])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    folder = tmp_path / "runs/model.checkpoint"
    with pytest.raises(SystemExit, match="130"):
        main()
    ending = capfd.readouterr().err.splitlines()[-2:]
    assert ending == [f"the same command goes on from the last checkpoint, in {folder}", "interrupted"]
    assert sorted(path.name for path in folder.iterdir()) == ["000002", "000003"]
    with pytest.raises(SystemExit, match="0"):
        main()
    assert f"going on from epoch 2, step 1 of 2 ({folder})\n" in capfd.readouterr().err
    assert not folder.exists()
