"""Two processes that hold a part of the text encoder each (FSDP) train what one with all of it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import Tensor

from tests.training.split_over_several import TRAININGS, train
from tests.training.test_ranks import ROOT, Trainings, _free_port
from towers.catalog import Catalog
from towers.errors import InputError
from towers.history import Histories
from towers.model import TwoTower
from training.config import Recipe
from training.measuring.protocols import last_event
from training.ranks import Ranks
from training.sharding import refuse_unusable
from training.trainer import fit, fit_catalog

WORKER = "tests/training/split_over_several.py"
SPLIT = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}  # as accelerate launch tells it to processes
NO_GRADIENT = "attention.self.key.bias"  # but for rounding: a softmax does not see it


@dataclass(frozen=True)
class Done:
    """Trainings that were done in one process and, with split weights, in two."""

    encoder: Path
    folder: Path

    def alone(self, name: str, training: str) -> None:
        """Do a training here, or go on with one."""
        train(self.encoder, self.folder / name, **TRAININGS[training])

    @contextmanager
    def split(self, *names: str) -> Iterator[None]:
        """Do trainings in two processes, as a launcher would start them, beside what is done meanwhile."""
        port, command = str(_free_port()), [sys.executable, WORKER, str(self.encoder), str(self.folder), *names]
        here = {"PYTHONPATH": str(ROOT), "TWOTOWER_CACHE": str(self.folder), "ACCELERATE_USE_CPU": "true"}
        here |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", **SPLIT}
        here |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        ranks = [{"RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]
        started = [
            subprocess.Popen(command, cwd=ROOT, env={**os.environ, **here, **rank}, stderr=subprocess.PIPE, text=True)
            for rank in ranks
        ]
        try:
            yield
            for one in started:
                _, said = one.communicate(timeout=240)
                assert one.returncode == 0, said[-3000:]
        finally:
            for one in started:
                one.kill()
                one.communicate()

    def told(self, name: str) -> dict[str, Any]:
        """How many of the trained weights a process had, and losses and metrics."""
        return json.loads((self.folder / f"{name}.json").read_text())

    def weights(self, name: str) -> dict[str, Tensor]:
        """The last weights."""
        return load_file(self.folder / f"{name}.safetensors")

    def same(self, name: str, other: str, tolerance: float) -> None:
        """Whether two trainings ended with the same weights."""
        one, two = self.weights(name), self.weights(other)
        assert set(one) == set(two)
        for weight, value in one.items():
            if tolerance < 1e-8 or NO_GRADIENT not in weight:
                torch.testing.assert_close(
                    two[weight], value, rtol=0, atol=tolerance, msg=lambda m, n=weight: f"{n}: {m}"
                )


@pytest.fixture(scope="module")
def done(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    found = Done(tiny_bert, tmp_path_factory.mktemp("split"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWOTOWER_CACHE", str(found.folder))
        patch.setattr("training.loop.bf16_is_fast", lambda _: False)
        yield found
    AcceleratorState._reset_state()


@pytest.fixture(scope="module")
def quick(done: Done) -> Done:
    with done.split("all", "moved"):
        for name in ("all", "parts"):
            done.alone(f"{name}-alone", name)
    return done


def test_after_20_steps_weights_and_validations_are_those_of_one_process(quick: Done) -> None:
    quick.same("all-alone", "all", 1e-9)
    alone, split = quick.told("all-alone"), quick.told("all")
    assert (alone["split"], split["split"]) == (False, True)
    assert len(split["epochs"]) == 3
    for one, two in zip(alone["epochs"], split["epochs"], strict=True):
        assert {**one, "seconds": 0} == {**one, **two, "seconds": 0}
        assert not any(name.startswith("gradient/") for name in two)


def test_a_process_has_half_of_the_trained_encoder(quick: Done) -> None:
    alone, split = quick.told("all-alone"), quick.told("all")
    assert alone["here"] == alone["trained"] == split["trained"] > 30_000
    assert split["here"] == pytest.approx(split["trained"] / 2, rel=0.01)


def test_what_they_save_is_the_whole_model(quick: Done) -> None:
    one, two = (TwoTower.load(quick.folder / name) for name in ("all-alone", "all"))
    assert one.user.text is not None
    assert two.user.text is not None
    ids, mask = one.encoder.pad(one.encoder.tokenize(["quiet rain", "a fast motor race"]))
    with torch.inference_mode():
        expected, found = one.user.text(ids, mask), two.user.text(ids, mask)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(two.item.state_dict(), one.item.state_dict(), rtol=0, atol=1e-6)


def test_one_process_goes_on_where_two_stopped(quick: Done) -> None:
    """They read part by part, each another number of texts, in one batch none at all."""
    assert not (quick.folder / "moved.json").exists()
    quick.alone("moved", "moved")
    quick.same("parts-alone", "moved", 1e-9)


@pytest.mark.slow
def test_also_after_a_stop_with_lower_layers_frozen_and_with_low_rank_additions(done: Done) -> None:
    with done.split("parts", "top", "lora", "half"):
        for name in ("parts", "top", "lora", "half"):
            done.alone(f"{name}-again", name)
    done.same("parts-again", "parts", 1e-9)
    for name in ("top", "lora", "half"):
        alone, split = done.told(f"{name}-again"), done.told(name)
        assert split["here"] == pytest.approx(alone["here"] / 2, rel=0.01)
    for name in ("top", "lora"):
        done.same(f"{name}-again", name, 2e-6)
    alone, split = (done.told(name)["epochs"][0] for name in ("half-again", "half"))
    assert split["loss"] == pytest.approx(alone["loss"], rel=0.02)  # in bfloat16, rounded elsewhere
    assert all(weight.dtype != torch.bfloat16 for weight in done.weights("half").values())


@pytest.mark.slow
def test_a_process_that_dies_ends_the_training_which_then_goes_on_to_the_same_weights(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = Trainings(tiny_bert, tmp_path)
    assert trainings.run("one", processes=1).returncode == 0
    for name, value in SPLIT.items():
        monkeypatch.setenv(name, value)
    died = trainings.run("split", "17")
    assert died.returncode != 0
    assert "goes on from its last checkpoint" in died.stderr
    again = trainings.run("split")
    assert again.returncode == 0, again.stderr[-3000:]
    assert "going on from epoch 4, step 2 of 5" in again.stderr
    one, two = trainings.tensors("one"), trainings.tensors("split")
    for name, value in one.items():
        if not name.startswith("gradient/"):
            torch.testing.assert_close(two[name], value, rtol=0, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("count", [2, 3])
def test_the_most_rows_of_a_process_are_counted_by_their_shares(size: int, count: int) -> None:
    rows = np.random.default_rng(size).integers(size, size=12)
    shares = [range(size)[Ranks(rank, count).share(size)] for rank in range(count)]
    expected = max(sum(int(row) in share for row in rows) for share in shares)
    assert Ranks(0, count).most(torch.from_numpy(rows), size) == expected


@pytest.mark.parametrize(
    ("environment", "user", "says"),
    [
        ({"FSDP_VERSION": "1"}, {}, "set fsdp_version: 2"),
        ({"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}, {}, "fsdp_cpu_ram_efficient_loading: true"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, {}, "fsdp_offload_params: true"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, {}, "fsdp_activation_checkpointing: true"),
        ({}, {"text": False}, "set user.text.tune"),
        ({}, {"text": {"tune": 0}}, "set user.text.tune"),
    ],
)
def test_what_cannot_be_done_is_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], user: dict[str, Any], says: str
) -> None:
    for name, value in {**SPLIT, **environment}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=says):
        refuse_unusable(Recipe.read({"user": user}))


def test_trainings_refuse_before_they_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Catalog.read(pl.DataFrame({"item_id": ["a", "b"], "title": ["quiet rain", "motor race"]}))
    past, validation = last_event(Histories.of([[0, 1, 0], [1, 0, 1]]))
    monkeypatch.setattr(Ranks, "current", lambda: Ranks(0, 2, splits=True))
    with pytest.raises(InputError, match="set fsdp_version: 2"):
        fit(catalog, past, validation, Recipe.read({"text": {"source": "/nowhere"}}))
    with pytest.raises(InputError, match="launch without FSDP"):
        fit_catalog(catalog, Recipe.read({"text": {"source": "/nowhere"}}))


def test_and_what_can_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SPLIT.items():
        monkeypatch.setenv(name, value)
    for tune in (1, "lora", "all"):
        refuse_unusable(Recipe.read({"user": {"text": {"tune": tune}}}))
