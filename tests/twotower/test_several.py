"""`twotower train` in two processes: told once, written once, and near what one process trains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from towers.model import TwoTower

ROOT = Path(__file__).parents[2]


def test_two_processes_write_one_model(tiny_run: Any, tmp_path: Path) -> None:
    data = ["--catalog", tiny_run.items, "--interactions", tiny_run.events, "--rating-range", "1", "5"]
    arguments = ["train", *map(str, [*data, "--recipe", tiny_run.recipe, "--out", tmp_path / "model"])]
    environment = {**os.environ, "TWOTOWER_CACHE": str(tmp_path / "cache"), "ACCELERATE_USE_CPU": "true"}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "twotower"]
    command = [sys.executable, *launcher, *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count(f"the model is in {tmp_path / 'model'}") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "model", "model.rejected.jsonl", "tensorboard"]
    vectors = TwoTower.load(tmp_path / "model").embed_items(tiny_run.catalog)
    alone = tiny_run.model.embed_items(tiny_run.catalog)
    assert (vectors * alone).sum(1).mean() > 0.98  # dropout draws other numbers, so that they are near, not equal
    assert (vectors * alone[::-1]).sum(1).mean() < 0.9
