"""python tests/training/one_of_several.py ENCODER OUT [STEP | joint | interests], or under torch.distributed.run.

A training of 20 steps in float64 without dropout; writes losses, the first step's gradients and the weights. With a
STEP the last process is killed before it, and the next call goes on. With ``joint`` there is no text reader, and
ratings and clicks are learned, too, weighted by their uncertainty. With ``interests`` everybody has two.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import polars as pl
import torch
from safetensors.torch import save_file
from torch import nn

from towers.catalog import Catalog
from towers.history import Histories
from training import loop
from training.checkpoint import Checkpoints
from training.config import Recipe
from training.loop import Run
from training.measuring.protocols import last_event
from training.ranks import Ranks
from training.sharding import whole
from training.untrained import new_model

PEOPLE, ITEMS, EPOCHS = 29, 24, 4  # batches of 7, 7, 7, 7 and 1: the last one leaves a process without anybody


JOINT = {"rating_weight": 1.0, "click_weight": 1.0, "weighting": "uncertainty"}


def main(encoder: Path, out: Path, more: str = "") -> None:
    """Train, and write what there is to compare."""
    killed_at, joint = int(more) if more.isdigit() else None, more == "joint"
    torch.set_num_threads(1)
    loop.bf16_is_fast = lambda _: False  # type: ignore[assignment]
    rng = np.random.default_rng(0)
    words = ["quiet", "night", "motor", "rain", "fast", "piano", "race", "evening"]
    catalog = Catalog.read(
        pl.DataFrame({"item_id": range(ITEMS), "title": [" ".join(rng.choice(words, 3)) for _ in range(ITEMS)]})
    )
    log = Histories.of([rng.integers(ITEMS, size=rng.integers(3, 9)).tolist() for _ in range(PEOPLE)])
    if joint:  # two thirds of the events are rated
        ratings = np.where(rng.random(len(log.items)) < 2 / 3, rng.random(len(log.items)), np.nan)
        log = Histories(log.offsets, log.items, ratings=ratings)
    past, validation = last_event(log)
    recipe = Recipe.read(
        {
            "text": {"source": str(encoder)},
            "item": {"dimension": 16, "hidden": 16, "id_dropout": 0.0},
            "user": {
                "sequence": {"blocks": 1},
                "text": False if joint else {"tune": "all", "history": {"budget": 48}},
                "interests": 2 if more == "interests" else 1,
            },
            "train": {
                "epochs": EPOCHS, "text_epochs": 2, "batch_people": 7, "sentences": 5,
                "evaluate_every": 1, "patience": 9,
                "uniform_negatives": 6, "popular_negatives": 3, "memory_negatives": 20, "hard_negatives": 3,
                "mine_every": 1, "rate": 0.01, "views_weight": 0.1, **(JOINT if joint else {}),
            },
        }
    )  # fmt: skip
    torch.manual_seed(0)
    counts = np.bincount(past.items, minlength=ITEMS)
    model = new_model(catalog, counts, recipe).double()
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    kept = Checkpoints(out.with_suffix(".checkpoint"), {}, 0)
    run = Run(model, catalog, past, validation, counts, recipe, False, checkpoints=kept)
    ranks = Ranks.current()
    gradients, step = {}, run.optimizer.step

    def first_gradients() -> None:
        if run.state.schedule.last_epoch == killed_at and ranks.rank == ranks.count - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if not gradients:
            named = run.objective.named_parameters()
            gradients.update(whole({f"gradient/{n}": p.grad.clone() for n, p in named if p.grad is not None}))
        step()

    run.optimizer.step = first_gradients
    report = run.go()
    if ranks.leads:
        weights = {name: value.clone() for name, value in run.objective.state_dict().items()}
        save_file(gradients | weights, out.with_suffix(".safetensors"))
        out.with_suffix(".json").write_text(
            json.dumps({"processes": ranks.count, "epochs": [{**entry, "seconds": 0} for entry in report.epochs]})
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
