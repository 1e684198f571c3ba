"""Spreading shards over workers: what does not need a cluster."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from indexing import spread
from towers.errors import MissingExtraError, TwoTowerError


def make() -> spread.Embed:
    return lambda part: (np.full((1, 2), part, np.float32), f"of {part}".encode())


def part(items: list[int], number: int) -> int:
    return items[number]


def test_here_shards_come_one_after_the_other() -> None:
    done = list(spread.here(make, part, [10, 20, 30], [2, 0]))
    assert [(number, vectors.tolist()) for number, vectors, _ in done] == [(2, [[30.0, 30.0]]), (0, [[10.0, 10.0]])]
    assert [notes for *_, notes in done] == [b"of 30", b"of 10"]


def test_a_worker_gives_back_the_bits_of_its_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    class Store:
        """Ray's, as far as a worker asks it."""

        get = staticmethod(lambda items: items)

    monkeypatch.setattr(spread, "_library", Store)
    answer = spread._Worker(make, part, [10, 20, 30])({"shard": np.array([1])})
    assert answer["shard"] == [1]
    assert np.load(io.BytesIO(answer["vectors"][0])).tolist() == [[20.0, 20.0]]
    assert answer["notes"] == [b"of 20"]


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"needs Ray.*twotower\[ray\]"):
        next(spread.over_ray(make, part, [1], [0], workers=1, threads=1))


def test_a_cluster_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        """Ray without a cluster."""

        @staticmethod
        def is_initialized() -> bool:
            return False

        @staticmethod
        def init(**options: Any) -> None:
            raise ConnectionError("nobody there")

    monkeypatch.setattr(spread, "_library", Silent)
    monkeypatch.setenv("RAY_ADDRESS", "nowhere:1")
    with pytest.raises(TwoTowerError, match="the Ray cluster nowhere:1 cannot be reached: nobody there; what is done"):
        next(spread.over_ray(make, part, [1], [0], workers=1, threads=1))
