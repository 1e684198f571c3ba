"""Several processes train what one would."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from towers.errors import TwoTowerError
from training.ranks import Ranks

ROOT = Path(__file__).parents[2]
WORKER = "tests/training/one_of_several.py"
SEVERAL = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port")


@pytest.mark.parametrize("size", [0, 1, 2, 7, 64])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_shares_are_everything_once(size: int, count: int) -> None:
    parts = [list(range(size))[Ranks(rank, count).share(size)] for rank in range(count)]
    assert [row for part in parts for row in part] == list(range(size))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_mean_of_the_processes_is_the_mean_of_all() -> None:
    losses = torch.tensor([3.0, 1.0, 8.0, 2.0, 5.0])
    found = [Ranks(rank, 3).mean(losses[Ranks(rank, 3).share(5)], 5) for rank in range(3)]
    assert sum(found).item() / 3 == pytest.approx(losses.mean().item())


def test_random_numbers_are_shared_until_they_part() -> None:
    drawn = []
    for rank in range(2):
        ranks = Ranks(rank, 2)
        ranks.seed(7, 3)
        shared = torch.rand(2).tolist()
        ranks.part()
        drawn.append((shared, torch.rand(2).tolist()))
    ranks.seed(7, 4)
    assert drawn[0][0] == drawn[1][0] != torch.rand(2).tolist()
    assert drawn[0][1] != drawn[1][1]


@pytest.fixture
def handler() -> Iterator[Any]:
    """What SIGTERM does now, and does again afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    yield before
    signal.signal(signal.SIGTERM, before)


def test_a_launcher_that_is_quicker_than_the_network_ends_it_with_the_same_word(handler: Any) -> None:
    def step() -> None:
        with Ranks(0, 2).told():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)

    with pytest.raises(TwoTowerError, match="another process of this training has ended: start it again"):
        step()


def test_a_network_that_is_quicker_than_the_launcher_may_say_its_word(handler: Any) -> None:
    """The launcher's signal comes while the error is on its way to the terminal."""
    ranks, error = Ranks(0, 2), RuntimeError("[gloo/transport] Connection closed by peer")
    with pytest.raises(TwoTowerError, match="another process of"), ranks.told(), ranks.together():
        raise error
    os.kill(os.getpid(), signal.SIGTERM)  # which would end this process by default


@pytest.mark.parametrize("error", [None, ValueError("pruned")])
def test_whoever_was_listening_does_so_again(handler: Any, error: Exception | None) -> None:
    with suppress(ValueError), Ranks(0, 2).told():
        assert signal.getsignal(signal.SIGTERM) is not handler
        if error is not None:
            raise error
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.parametrize("message", ["[gloo/transport] Connection closed by peer", "shapes do not fit"])
def test_errors_of_the_network_are_told_and_others_are_not_hidden(message: str) -> None:
    expected = TwoTowerError if "gloo" in message else RuntimeError
    with pytest.raises(expected, match=message.split("] ")[-1]) as found, Ranks(1, 2).together():
        raise RuntimeError(message)
    assert isinstance(found.value, TwoTowerError) == ("gloo" in message)


@dataclass(frozen=True)
class Trainings:
    """The same training in one process and in two, and how to run another one."""

    encoder: Path
    folder: Path

    def run(self, name: str, *more: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
        """Train, or go on."""
        here = {"PYTHONPATH": str(ROOT), "TWOTOWER_CACHE": str(self.folder), "ACCELERATE_USE_CPU": "true"}
        here |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        launcher = [*SEVERAL, str(_free_port())] if processes > 1 else []
        command = [sys.executable, *launcher, WORKER, str(self.encoder), str(self.folder / name), *more]
        return subprocess.run(
            command, cwd=ROOT, env={**os.environ, **here}, capture_output=True, text=True, timeout=240
        )

    def told(self, name: str) -> dict[str, Any]:
        """Number of processes, losses and metrics."""
        return json.loads((self.folder / f"{name}.json").read_text())

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """Gradients of the first step of a call, and the last weights."""
        return load_file(self.folder / f"{name}.safetensors")


@pytest.fixture(scope="module")
def trainings(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    found = Trainings(tiny_bert, tmp_path_factory.mktemp("ranks"))
    for name, processes in {"one": 1, "two": 2}.items():
        done = found.run(name, processes=processes)
        assert done.returncode == 0, done.stderr[-3000:]
        assert found.told(name)["processes"] == processes
    return found


def test_two_processes_train_what_one_does(trainings: Trainings) -> None:
    """Losses, metrics, gradients and, after 20 steps, weights; with every source of negatives and uneven batches."""
    same(trainings, "one", "two", epochs=3)


def test_also_where_people_have_several_interests(trainings: Trainings) -> None:
    for name, processes in {"one-interests": 1, "two-interests": 2}.items():
        done = trainings.run(name, "interests", processes=processes)
        assert done.returncode == 0, done.stderr[-3000:]
    weights = trainings.tensors("one-interests")["model.user.sequence.out.weight"]
    assert weights.shape == (32, 16)
    same(trainings, "one-interests", "two-interests", epochs=3)


def test_and_so_they_do_for_several_objectives(trainings: Trainings) -> None:
    """Ratings and clicks beside the contrast, with learned weights; each process has other numbers of them."""
    for name, processes in {"one-joint": 1, "two-joint": 2}.items():
        done = trainings.run(name, "joint", processes=processes)
        assert done.returncode == 0, done.stderr[-3000:]
    same(trainings, "one-joint", "two-joint", epochs=4)
    last = trainings.told("two-joint")["epochs"][-1]
    for name in ("sequence", "views", "rating", "click"):
        assert last[f"gradient/{name}"] > 0
        assert last[f"weight/{name}"] not in (0.5, 1.0)


def same(trainings: Trainings, name: str, other: str, *, epochs: int) -> None:
    """Whether two trainings had the same losses, metrics, gradients and weights."""
    one, two = (trainings.told(training)["epochs"] for training in (name, other))
    assert len(one) == len(two) == epochs
    for alone, together in zip(one, two, strict=True):
        assert alone == pytest.approx(together, abs=2e-5)  # they are rounded to five places
    one, two = (trainings.tensors(training) for training in (name, other))
    assert set(one) == set(two)
    assert sum(name.startswith("gradient/") for name in one) > 20
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("step", [8, 17])  # before and after the text reader joins
def test_a_process_that_dies_ends_the_training_which_then_goes_on_to_the_same_weights(
    trainings: Trainings, step: int
) -> None:
    name = f"killed-{step}"
    done = trainings.run(name, str(step))
    assert done.returncode != 0
    assert "another process of this training has ended" in done.stderr
    assert "goes on from its last checkpoint" in done.stderr
    done = trainings.run(name)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"going on from epoch {step // 5 + 1}, step " in done.stderr  # the first may have done the step by itself
    assert trainings.told(name) == trainings.told("two")
    whole, again = trainings.tensors("two"), trainings.tensors(name)
    for weight, value in whole.items():
        assert weight.startswith("gradient/") or torch.equal(value, again[weight]), weight


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
