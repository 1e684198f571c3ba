"""The desk: what waits is answered together, a full queue refuses, and nobody's error is another's."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from serving.web.batching import BusyError, Desk
from serving.web.limits import Limits
from serving.web.metrics import Metrics


class Slow:
    """Doubles numbers, once it may; keeps the batches that it was given."""

    def __init__(self) -> None:
        self.may, self.batches = threading.Event(), []  # type: ignore[var-annotated]

    def double(self, numbers: Sequence[int]) -> list[Any]:
        self.batches.append(list(numbers))
        assert self.may.wait(10)
        return [ValueError("odd") if number % 2 else 2 * number for number in numbers]


def working(body: Any, **limits: Any) -> Any:
    """Run a test with a desk."""

    async def run() -> Any:
        desk = Desk(Limits(**limits), Metrics())
        desk.open()
        try:
            return await body(desk, Slow())
        finally:
            await desk.close()

    return asyncio.run(run())


def test_what_gathers_while_one_is_computed_is_computed_together() -> None:
    async def body(desk: Desk, slow: Slow) -> Any:
        asked = [asyncio.create_task(desk.ask(slow.double, number)) for number in range(0, 12, 2)]
        while not slow.batches:
            await asyncio.sleep(0.001)
        late = [asyncio.create_task(desk.ask(slow.double, number)) for number in (20, 22)]
        await asyncio.sleep(0)
        slow.may.set()
        return await asyncio.gather(*asked, *late), slow.batches

    answers, batches = working(body, batch=4)
    assert answers == [0, 4, 8, 12, 16, 20, 40, 44]
    assert batches == [[0, 2, 4, 6], [8, 10, 20, 22]]


def test_a_batch_of_one_shop_holds_no_question_to_another() -> None:
    async def body(desk: Desk, slow: Slow) -> Any:
        other = Slow()
        slow.may.set()
        other.may.set()
        both = [desk.ask((slow, other)[number % 4 // 2].double, number) for number in range(0, 8, 2)]
        return await asyncio.gather(*both), slow.batches, other.batches

    answers, ours, theirs = working(body)
    assert answers == [0, 4, 8, 12]
    assert (ours, theirs) == ([[0], [4]], [[2], [6]])


def test_an_error_is_its_own_questions() -> None:
    async def body(desk: Desk, slow: Slow) -> Any:
        slow.may.set()
        return await asyncio.gather(*(desk.ask(slow.double, n) for n in (2, 3, 4)), return_exceptions=True)

    two, three, four = working(body)
    assert (two, four) == (4, 8)
    assert isinstance(three, ValueError)


def test_a_full_queue_refuses_and_an_answer_that_is_late_is_given_up() -> None:
    async def body(desk: Desk, slow: Slow) -> Any:
        first = asyncio.create_task(desk.ask(slow.double, 2))
        while not slow.batches:
            await asyncio.sleep(0.001)
        waiting = [asyncio.create_task(desk.ask(slow.double, number)) for number in (4, 6)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="2 questions wait already"):
            await desk.ask(slow.double, 8)
        for task in (first, *waiting):
            with pytest.raises(BusyError, match=r"no answer within 0\.1 seconds"):
                await task
        slow.may.set()
        return await desk.ask(slow.double, 10), slow.batches

    answer, batches = working(body, queue=2, seconds=0.1)
    assert answer == 20
    assert batches == [[2], [10]]  # those that were given up were not computed


def test_a_question_that_would_come_too_late_is_refused_at_once() -> None:
    """Each takes 0.2 s and may take 2: a sixth would wait for more than 0.45 of that."""

    async def body(desk: Desk, _: Slow) -> Any:
        def slow(numbers: Sequence[int]) -> list[int]:
            time.sleep(0.2 * len(numbers))
            return list(numbers)

        for _ in range(16):  # so that the desk knows
            await desk.ask(slow, 0)
        waiting = [asyncio.create_task(desk.ask(slow, number)) for number in range(5)]
        await asyncio.sleep(0)
        assert re.fullmatch(r"those that wait already take 1\.0 seconds", desk.full)
        with pytest.raises(BusyError, match="those that wait already take"):
            await desk.ask(slow, 5)
        answers = await asyncio.gather(*waiting)
        return answers, desk.full

    assert working(body, seconds=2, batch=1) == ([0, 1, 2, 3, 4], "")


def test_a_service_that_ends_answers_those_who_wait() -> None:
    async def run() -> Any:
        desk, slow = Desk(Limits(batch=1), Metrics()), Slow()
        desk.open()
        asked = [asyncio.create_task(desk.ask(slow.double, number)) for number in (2, 4, 6)]
        await asyncio.sleep(0)
        slow.may.set()
        await desk.close()
        return await asyncio.gather(*asked)

    assert asyncio.run(run()) == [4, 8, 12]
