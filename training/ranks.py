"""Several processes that train one model: which part of a step is whose.

All processes draw the same batch from the same random numbers. Each reads its share of the people and texts; the items
that the step looks at each of them computes for itself, which costs little, as their contents are frozen. So the
targets of all are negatives of all, without any vector sent around, and the mean of the processes' gradients is the
gradient of the whole batch.
"""

from __future__ import annotations

import atexit
import gc
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributed import DistError

from towers.errors import TwoTowerError

Value = TypeVar("Value")
ENDED = "another process of this training has ended"
AGAIN = "start it again as before, and it goes on from its last checkpoint"


def process_state() -> PartialState:
    """Accelerate's view of this process, which is made by the first call and joins the others, on CPUs too."""
    wanted = parse_flag_from_env("ACCELERATE_USE_CPU")
    state = PartialState(cpu=wanted or not torch.accelerator.is_available())
    if state.num_processes > 1:
        atexit.unregister(_leave)
        atexit.register(_leave)
    return state


def _leave() -> None:
    """Close what connects the processes before the interpreter ends, whose end aborts now and then over its threads.

    They are waited for once nothing holds the connection any more, and a training, a circle of objects, may still do.
    """
    if dist.is_initialized():
        gc.collect()
        dist.destroy_process_group()


@dataclass(frozen=True)
class Ranks:
    """One of `count` processes, the one with number `rank`; the first leads.

    `splits`: weights are split over them (`training.sharding`).
    """

    rank: int = 0
    count: int = 1
    splits: bool = False

    @classmethod
    def current(cls) -> Ranks:
        """As ``torchrun`` or ``accelerate launch`` started this process, else the only one."""
        state = process_state()
        splits = state.num_processes > 1 and parse_flag_from_env("ACCELERATE_USE_FSDP")
        return cls(state.process_index, state.num_processes, splits)

    @property
    def leads(self) -> bool:
        """Whether this process validates, shows progress and writes."""
        return self.rank == 0

    def share(self, size: int) -> slice:
        """This process's part of so many rows; parts differ by one row at most, and may be empty."""
        return slice(size * self.rank // self.count, size * (self.rank + 1) // self.count)

    def most(self, rows: Int[Tensor, " a"], size: int) -> int:
        """How many of the `rows`, each one of so many, are in one process's share at most."""
        ends = [size * rank // self.count for rank in range(1, self.count)]
        return int(torch.bucketize(rows, torch.tensor(ends, device=rows.device), right=True).bincount().max())

    def mean(self, losses: Float[Tensor, " p"], total: int) -> Float[Tensor, ""]:
        """What this process's losses add to the mean of all `total`, where gradients are averaged over processes."""
        return losses.sum() * (self.count / total)

    def agree(self, value: Value) -> Value:
        """The leader's value, in every process; any that JSON or a tensor can hold."""
        if self.count == 1:
            return value
        values = [value]
        broadcast_object_list(values)
        return values[0]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Around what processes do in step.

        Raises:
            TwoTowerError: another one has ended meanwhile.
        """
        if self.count == 1:
            yield
            return
        try:
            yield
        except RuntimeError as error:
            if not isinstance(error, DistError) and "gloo" not in str(error):
                raise
            raise TwoTowerError(f"{ENDED} ({str(error).splitlines()[0]}): {AGAIN}") from error

    @contextmanager
    def told(self) -> Iterator[None]:
        """Around all that several processes do: the launcher, which may be quicker than the network, is listened to.

        Raises:
            TwoTowerError: it said that this process should end, as another one has.
        """
        if self.count == 1:
            yield
            return
        after = signal.signal(signal.SIGTERM, _told_to_end)
        try:
            yield
        except TwoTowerError:  # all that is left is to say why and to end, which the launcher must not cut short
            after = signal.SIG_IGN
            raise
        finally:
            signal.signal(signal.SIGTERM, after)

    def seed(self, seed: int, step: int) -> None:
        """The same random numbers in every process for what all of them compute in a step, so that it is the same.

        They depend on nothing but the step, so that a training that goes on after a kill draws them again.
        """
        torch.manual_seed(seed * 1_000_003 + step * (self.count + 1))

    def part(self) -> None:
        """Random numbers of this process's own from here on in the step."""
        torch.manual_seed(torch.initial_seed() + 1 + self.rank)


def _told_to_end(*_: Any) -> NoReturn:
    raise TwoTowerError(f"this process was told to end, as is usual where {ENDED}: {AGAIN}")
