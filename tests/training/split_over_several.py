"""python tests/training/split_over_several.py ENCODER FOLDER NAME..., under torch.distributed.run: split weights.

Trainings of a few steps without dropout, which `train` does in one process just so. For each the first process writes
FOLDER/NAME: weights, figures and the model. ``parts`` is stopped after the last step of an epoch, before the
validation, and goes on; ``moved`` stays stopped there, for another number of processes to go on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import save_file
from torch import nn
from torch.distributed.tensor import DTensor

from towers.catalog import Catalog
from towers.history import Histories
from training import loop
from training.checkpoint import Checkpoints
from training.config import Recipe
from training.loop import Run
from training.measuring.protocols import last_event
from training.ranks import Ranks
from training.untrained import new_model

PEOPLE, ITEMS, EPOCHS = 29, 24, 4  # batches of 7, 7, 7, 7 and 1: the last one leaves a process without anybody
ALONE: dict[str, Any] = {"sequence": False}  # the text reader, which then trains from the first step
TRAININGS: dict[str, dict[str, Any]] = {  # settings of [user] and, of [train], `epochs` and `part`
    "all": {"text": {"tune": "all"}},
    "parts": {"text": {"tune": "all"}, **ALONE, "epochs": 2, "part": 2},
    "moved": {"text": {"tune": "all"}, **ALONE, "epochs": 2, "part": 2},
    "top": {"text": {"tune": 1}, **ALONE, "epochs": 1},
    "lora": {"text": {"tune": "lora"}, **ALONE, "epochs": 1},
    "half": {"text": {"tune": 1}, **ALONE, "epochs": 1},
}


class Stopped(Exception):
    """As if somebody had stopped the training."""


def train(encoder: Path, out: Path, *, stop: int = -1, **settings: Any) -> None:
    """Train and write what there is to compare; or stop before a step, from where the next call goes on."""
    epochs, part = settings.pop("epochs", EPOCHS), settings.pop("part", 64)
    rng = np.random.default_rng(0)
    words = ["quiet", "night", "motor", "rain", "fast", "piano", "race", "evening"]
    titles = [" ".join(rng.choice(words, 3)) for _ in range(ITEMS)]
    catalog = Catalog.read(pl.DataFrame({"item_id": range(ITEMS), "title": titles}))
    log = Histories.of([rng.integers(ITEMS, size=rng.integers(3, 9)).tolist() for _ in range(PEOPLE)])
    past, validation = last_event(log)
    AcceleratorState._reset_state()
    loop.bf16_is_fast = lambda _: "half" in out.name  # type: ignore[assignment]
    settings["text"] = {**settings["text"], "history": {"budget": 48}}
    recipe = Recipe.read(
        {
            "text": {"source": str(encoder)},
            "item": {"dimension": 16, "hidden": 16, "id_dropout": 0.0},
            "user": {"sequence": {"blocks": 1}, **settings},
            "train": {
                "epochs": epochs, "text_epochs": min(2, epochs), "batch_people": 7, "sentences": 5, "part": part,
                "evaluate_every": 1, "patience": 9, "uniform_negatives": 6, "mine_every": 1,
                "hard_negatives": 3 if epochs > 1 else 0, "rate": 0.01, "rate_pretrained": 0.01,
            },
        }
    )  # fmt: skip
    torch.manual_seed(0)
    counts = np.bincount(past.items, minlength=ITEMS)
    model = new_model(catalog, counts, recipe)
    if recipe.user.text is not None and recipe.user.text.tune == "all":
        model.double()  # states of frozen layers are kept in less
    kept = Checkpoints(out.with_suffix(".checkpoint"), {}, 0)
    run = Run(model, catalog, past, validation, counts, recipe, False, checkpoints=kept)
    for one in model.modules():
        if isinstance(one, nn.Dropout):
            one.p = 0.0
    assert model.user.text is not None
    trained = [weight for weight in model.user.text.encoder.parameters() if weight.requires_grad]
    here = sum((one.to_local() if isinstance(one, DTensor) else one).numel() for one in trained)
    ranks, step = Ranks.current(), run._step

    def stoppable(people: np.ndarray) -> dict[str, float]:
        if run.state.schedule.last_epoch == stop:
            raise Stopped
        return step(people)

    run._step = stoppable  # type: ignore[method-assign]
    try:
        report = run.go()
    except Stopped:
        return
    if ranks.leads:
        save_file({name: value.clone() for name, value in model.state_dict().items()}, out.with_suffix(".safetensors"))
        model.float().eval().save(out)
        facts = {"split": ranks.splits, "here": here, "trained": sum(one.numel() for one in trained)}
        out.with_suffix(".json").write_text(json.dumps({**facts, "epochs": report.epochs}))


def main(encoder: Path, folder: Path, *names: str) -> None:
    """Train, one after the other."""
    torch.set_num_threads(1)
    for name in names:
        if name in ("parts", "moved"):
            train(encoder, folder / name, stop=5, **TRAININGS[name])
        if name != "moved":
            train(encoder, folder / name, **TRAININGS[name])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
