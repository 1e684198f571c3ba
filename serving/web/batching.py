"""`Desk`: questions wait in one short queue, and what has gathered while one batch is computed is the next batch."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from serving.web.limits import BusyError, Limits
from serving.web.metrics import Metrics

WAIT = 0.45  # of the longest time may pass before a question's turn; its batch, of those who wait, takes no longer
NEWEST = 0.2  # of what is held to be the time a question takes is what the last ones took

Many = Callable[[Sequence[Any]], Sequence[Any]]
"""Answers several questions at once, with an exception in the place of each that has none."""


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A question, who answers it, and where the answer goes."""

    many: Many
    question: Any
    answer: asyncio.Future[Any]


class Desk:
    """One thread that answers; nobody waits for company, as a batch is what came while the last one was computed.

    The queue is short, and a question is refused at once where it is full or would not be answered in time, so that
    those who are answered did not wait for long, and nothing is computed for those who have gone, however many more
    there are.

    Args:
        limits: `batch`, `queue` and `seconds`.
        metrics: where waiting, batches and refusals are counted.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits, self._metrics = limits, metrics
        self._queue: deque[_Waiting] = deque()
        self._came = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "answers")
        self._task: asyncio.Task[None] | None = None
        self._free = asyncio.Event()
        self._free.set()
        self._computing, self._pace = 0, 0.0  # questions at work; seconds that each takes

    async def ask(self, many: Many, question: Any) -> Any:
        """The answer to a question, which may be computed beside others that are for the same `many`.

        Raises:
            BusyError: the queue is full, or the answer took too long.
            Exception: what stands in the place of the answer.
        """
        if why := self.full:
            self._metrics.refused.labels("queue").inc()
            raise BusyError(why)
        one = _Waiting(many, question, asyncio.get_running_loop().create_future())
        self._queue.append(one)
        self._came.set()
        try:
            async with asyncio.timeout(self._limits.seconds):
                answer = await one.answer
        except TimeoutError:
            self._metrics.refused.labels("time").inc()
            raise BusyError(f"there was no answer within {self._limits.seconds:g} seconds") from None
        finally:
            with contextlib.suppress(ValueError):  # it is in the queue still where nobody waits for it any more
                self._queue.remove(one)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def run(self, compute: Callable[[], Any]) -> Any:
        """What `compute` returns, computed by itself in its turn."""
        return await self.ask(_alone, compute)

    def open(self) -> None:
        """Begin to answer."""
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Answer those who wait already, then end."""
        while self._queue or not self._free.is_set():
            await asyncio.sleep(0.01)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._thread.shutdown(wait=True)

    @property
    def waiting(self) -> int:
        """Questions in the queue."""
        return len(self._queue)

    @property
    def full(self) -> str:
        """Why another question is refused; empty where it is not."""
        if self.waiting >= self._limits.queue:
            return f"{self._limits.queue} questions wait already"
        before = (self.waiting + self._computing) * self._pace
        if before > WAIT * self._limits.seconds:
            return f"those that wait already take {before:.1f} seconds"
        return ""

    async def _work(self) -> None:
        while True:
            await self._came.wait()
            batch = self._next()
            if not batch:
                self._came.clear()
                continue
            self._free.clear()
            self._metrics.batch.observe(len(batch))
            began, self._computing = time.monotonic(), len(batch)
            await self._answer(batch)
            self._pace += NEWEST * ((time.monotonic() - began) / len(batch) - self._pace)
            self._computing = 0
            del batch  # the shop that it asked may be gone by now, and its memory with it
            self._free.set()

    def _next(self) -> list[_Waiting]:
        """The oldest questions that go together."""
        batch: list[_Waiting] = []
        while self._queue and len(batch) < self._limits.batch:
            if batch and self._queue[0].many != batch[0].many:
                break
            batch.append(self._queue.popleft())
        return batch

    async def _answer(self, batch: list[_Waiting]) -> None:
        many, questions = batch[0].many, [one.question for one in batch]
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._thread, many, questions)
        except Exception as error:
            answers = [error] * len(batch)
        for one, answer in zip(batch, answers, strict=True):
            if not one.answer.done():
                one.answer.set_result(answer)


def _alone(computations: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each of them returns or raises."""
    done: list[Any] = []
    for compute in computations:
        try:
            done.append(compute())
        except Exception as error:
            done.append(error)
    return done
