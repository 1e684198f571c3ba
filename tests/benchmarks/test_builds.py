"""benchmarks.scale, embed_scale and killed_builds: their figures, on small worlds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import killed_builds, scale
from benchmarks.building import World
from benchmarks.embed_scale import killed_alone, same
from indexing.exact import exact_search
from indexing.index import ItemIndex
from indexing.vectors import unit
from towers.errors import InputError


def test_sizes_are_two_a_decade() -> None:
    assert scale.sizes_to(1_000_000) == [10_000, 31_623, 100_000, 316_228, 1_000_000]
    with pytest.raises(InputError, match="at least 10,000"):
        scale.sizes_to(9_999)


def test_an_exponent_is_that_of_the_power_law() -> None:
    sizes = [10, 100, 1000, 10_000]
    assert scale.exponent(sizes, [3 * n**1.5 for n in sizes]) == pytest.approx([1.5, 1.5, 1.5], abs=1e-6)
    value, low, high = scale.exponent(sizes, [1.0, 2.0, 2.0, 4.0])
    assert low < value < high
    assert value == pytest.approx(0.1806, abs=1e-3)  # slope of 0, .301, .301, .602 over 1, 2, 3, 4
    assert scale.exponent([10, 100], [1.0, 10.0]) == [1.0]


def test_a_kind_is_measured() -> None:
    vectors = np.concatenate(list(scale.draw(2000, 16, 1)))
    queries = next(scale.draw(50, 16, 2))
    kth = exact_search(queries, vectors, scale.K).scores[:, -1]
    found = scale.measure("Flat", vectors, queries, kth)
    assert found["recall@10"] == 1
    assert found["bytes_per_item"] == pytest.approx(2 * 64, abs=0.1)
    assert found["qps@.95"] > 0
    poor = scale.measure("PCA2,Flat", vectors, queries, kth)
    assert (poor["recall@10"], poor["qps@.95"]) == (0, 0)


def test_faults_of_a_build_are_counted() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(6, 4)))
    whole = ItemIndex.from_arrays(range(6), vectors)
    assert killed_builds.faults(whole, whole) == {"lost": 0, "duplicated": 0, "wrong": 0}
    other = ItemIndex.from_arrays(range(4), np.concatenate([vectors[:3], vectors[5:]]))
    assert killed_builds.faults(other, whole) == {"lost": 2, "duplicated": 0, "wrong": 1}


def test_killed_builds_end_whole(tiny_bert: Path, tmp_path: Path) -> None:
    found = killed_builds.alone(tmp_path, 3, str(tiny_bert), longest=0.3)
    assert found["builds"] >= 1
    assert found == {"kills": 3, "builds": found["builds"], "lost": 0, "duplicated": 0, "wrong": 0}


@pytest.mark.slow
def test_a_kill_repeats_at_most_one_shard(tiny_bert: Path, tmp_path: Path) -> None:
    world = World.make(tmp_path, 200, 20, str(tiny_bert))
    world.build("by-0")
    found = killed_alone(world, 2)
    assert found["kills"] > 0
    assert 0 <= found["repeated"] <= found["kills"]
    assert found["same_bits"] == 1


@pytest.mark.slow
def test_over_ray_the_same_bits_come_out_though_the_driver_is_killed(tiny_bert: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    found = killed_builds.over_ray(tmp_path, 1, str(tiny_bert))
    assert found == {"kills": found["kills"], "builds": 1, "lost": 0, "duplicated": 0, "wrong": 0}
    assert same(World(tmp_path, 240, 20).load("index"), World(tmp_path, 240, 20).load("whole"))
