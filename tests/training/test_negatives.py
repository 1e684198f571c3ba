"""Where negatives come from, by hand and in expectation; the loss over them is in test_contrast."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from towers.history import Histories
from training.negatives import Known, Memory, Negatives, among, with_targets
from training.sampling import shares_of_others, target_chances, windows


def test_known_both_ways_against_sets() -> None:
    histories = Histories.of([[3, 1], [], [8, 8, 2], [5], [0, 4], [1, 2, 3, 1]])
    known = Known(histories, 9)
    people = np.array([5, 1, 4, 0, 5])
    sets = [set(histories.items[histories.offsets[p] : histories.offsets[p + 1]].tolist()) for p in people]
    assert known.of_catalog(people).tolist() == [[item in own for item in range(9)] for own in sets]
    for candidates in ([8, 0, 3, 5, 1], [3, 8, 3, 1, 8, 3], []):  # in any order, some of them several times
        wanted = torch.tensor(candidates, dtype=torch.int64)
        assert known.of(people, wanted).tolist() == [[c in own for c in candidates] for own in sets]
    items = [8, 2, 5, 3, 4]
    assert known.pairs(people, torch.tensor(items)).tolist() == [i in own for i, own in zip(items, sets, strict=True)]
    assert known.pairs(people, torch.tensor(items)).tolist() == [False, False, False, True, False]


def test_known_of_nobody() -> None:
    known, people = Known(Histories.of([[], []]), 3), np.array([1, 0])
    assert known.of(people, torch.tensor([2, 0])).tolist() == [[False, False]] * 2
    assert known.pairs(people, torch.tensor([2, 0])).tolist() == [False, False]


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that is made."""

    nbytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        self.nbytes = max([self.nbytes, *(t.nbytes for t in tree_leaves(made) if isinstance(t, Tensor))])
        return made


def test_known_takes_a_byte_for_each_person_and_candidate() -> None:
    known = Known(Histories.of([[n % 400, (7 * n) % 400] for n in range(300)]), 400)
    people, candidates = np.arange(300), torch.arange(400)
    with Largest() as largest:
        found = known.of(people, candidates)
    assert found.equal(known.of_catalog(people))
    assert largest.nbytes == 300 * 400


def test_weights_without_a_uniform_share_by_hand() -> None:
    """Half and a quarter of others' targets: expected 1.5 and 0.75 times among the four of four people, which are the
    three of three others; 1 and 0.5 times among those of two people."""
    for people, expected in (4, [1.5, 0.75]), (2, [1, 0.5]):
        drawn = Negatives(np.array([2, 1, 1, 0]) / 4, 0).draw(torch.tensor([1, 0, 0, 0]), people, torch.Generator())
        assert drawn.items.tolist() == [0, 1]
        assert drawn.log_weight.exp().tolist() == pytest.approx([3 / expected[0], 1 / expected[1]])
        assert drawn.targets_log_weight.exp().tolist() == pytest.approx([1 / expected[n] for n in (1, 0, 0, 0)])
        assert drawn.raised is None


def test_who_is_alone_in_a_step_has_no_negatives_of_others() -> None:
    """Among the four uniform draws from four items each is expected once; the targets are their own."""
    generator = torch.Generator().manual_seed(0)
    drawn = Negatives(np.array([2, 1, 1, 0]) / 4, 4).draw(torch.tensor([1, 1]), 1, generator)
    assert drawn.targets_log_weight.tolist() == [0, 0]
    assert drawn.log_weight.exp().sum().item() == pytest.approx(6)


def test_every_item_is_drawn_as_often_as_expected() -> None:
    """w = drawn / expected, and with many uniform draws that is close to one for items that are no target too."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.tensor([0] * 200 + [1] * 100 + [2] * 100)
    drawn = Negatives(np.array([2, 1, 1, 0]) / 4, 40_000).draw(targets, 100, generator)
    assert drawn.items.tolist() == [0, 1, 2, 3]
    assert drawn.log_weight.exp().tolist() == pytest.approx([1.0] * 4, abs=0.05)


@pytest.mark.parametrize(("uniform", "popular", "memory"), [(1, 0, 0), (6, 0, 0), (2, 5, 0), (2, 0, 6), (1, 3, 8)])
def test_sampled_sum_is_the_catalogs_sum_on_average(uniform: int, popular: int, memory: int) -> None:
    """The point of logQ: sum of w exp(s) over the sample estimates the sum of exp(s) over everything.

    Popular items have the high logits here, so that without a correction the estimate is far off.
    """
    counts = np.array([50, 25, 15, 5, 5])
    sizes = torch.tensor([2.0, 1.5, 0.0, -0.5, 1.0]).exp()
    share = torch.from_numpy(counts / counts.sum())
    negatives = Negatives(share.numpy(), uniform, popular=popular, memory=memory)
    generator = torch.Generator().manual_seed(0)
    estimates, uncorrected = [], []
    for _ in range(4000):
        targets = torch.multinomial(share, 4, replacement=True, generator=generator)
        drawn = negatives.draw(targets, 10**9, generator)  # who asks is none of those whose targets these are
        estimates.append(float((drawn.log_weight.exp() * sizes[drawn.items]).sum()))
        uncorrected.append(float(sizes[drawn.items].sum()))
        negatives.memory.keep(targets, torch.zeros(len(targets), 1))
    error = np.std(estimates) / math.sqrt(len(estimates))
    assert error < 0.01 * sizes.sum().item()
    assert np.mean(estimates) == pytest.approx(sizes.sum().item(), abs=4 * error)
    assert abs(np.mean(uncorrected) - sizes.sum().item()) > 10 * error


STEPS = [(4, 1, 0), (16, 1, 0), (64, 1, 0), (16, 30, 0), (4, 1, 40), (16, 8, 300)]


@pytest.mark.parametrize(("people", "uniform", "memory"), STEPS)
def test_of_real_windows_the_sampled_sum_is_that_of_what_a_person_does_not_know(
    people: int, uniform: int, memory: int
) -> None:
    """Where 4 of 64 ask for 11 items each, 44 targets are expected to be 33 of others; the memory's are all others'."""
    rng = np.random.default_rng(0)
    popularity = np.linspace(4, 1, 150) / 375
    past = Histories.of([rng.choice(150, 12, replace=False, p=popularity).tolist() for _ in range(64)])
    known, met = Known(past, 150), np.bincount(past.items, minlength=150) > 0
    shares = shares_of_others(past, target_chances(past, 20), people=64, items=150)
    negatives, sizes = Negatives(shares, uniform, memory=memory), torch.from_numpy(shares * met) ** 0.5
    truth = (~known.of_catalog(np.arange(64)) * sizes).sum(1)
    generator, ratios = torch.Generator().manual_seed(0), []
    for step in range(40 * 64 // people):
        if step % (64 // people) == 0:
            order = rng.permutation(64)
        who, order = order[:people], order[people:]
        seen = windows(past, who, 20, rng)
        targets = seen.targets[seen.inputs.mask]
        drawn = negatives.draw(targets, people, generator)
        weights = drawn.log_weight.exp() * ~known.of(who, drawn.items)
        ratios.append(float(((weights * sizes[drawn.items]).sum(1) / truth[who]).mean()))
        negatives.memory.keep(targets, torch.zeros(len(targets), 1))
    assert np.mean(ratios) == pytest.approx(1, abs=0.01)


def test_the_memory_forgets_the_oldest_and_finds_the_newest() -> None:
    memory = Memory(4)
    memory.keep(torch.tensor([7, 3]), torch.tensor([[1.0], [2.0]]))
    memory.keep(torch.tensor([3, 5, 3]), torch.tensor([[3.0], [4.0], [5.0]]).requires_grad_())
    assert memory.items.tolist() == [3, 3, 5, 3]
    assert memory.vectors[memory.newest(torch.tensor([5, 3]))].tolist() == [[4.0], [5.0]]
    assert not memory.vectors.requires_grad
    memory.keep(torch.arange(9), torch.arange(9.0)[:, None])
    assert memory.items.tolist() == memory.vectors[:, 0].tolist() == [5, 6, 7, 8]


def test_a_memory_of_nothing_keeps_nothing() -> None:
    memory = Memory(0)
    memory.keep(torch.tensor([7, 3]), torch.tensor([[1.0], [2.0]]))
    assert len(memory.items) == 0


def test_what_only_the_memory_has_comes_with_its_vector() -> None:
    """Drawn today: 0, by both targets, of which one is another's. Kept: 0 and 2; today's vector of 0 goes before the
    one that was kept."""
    negatives = Negatives(np.array([2, 1, 1]) / 4, 0, memory=5)
    negatives.memory.keep(torch.tensor([2, 0]), torch.tensor([[0.2], [0.1]]))
    drawn = negatives.draw(torch.tensor([0, 0]), 2, torch.Generator())
    assert drawn.items.tolist() == [0, 2]
    assert drawn.fresh.tolist() == [True, False]
    assert drawn.kept.tolist() == [pytest.approx([0.2])]
    assert drawn.log_weight.exp().tolist() == pytest.approx([3 / 1.5, 1 / 0.75])
    assert drawn.targets_log_weight.exp().tolist() == pytest.approx([1 / 1.5, 1 / 1.5])
    assert drawn.raised is not None
    assert drawn.raised[0].item() == pytest.approx(1.5 / (0.5 + 2 * 0.5 * 0.5))  # drawn today half of the time


def test_popular_ones_are_drawn_by_their_count_to_the_power_of_three_quarters() -> None:
    counts = np.array([16, 0, 81, 1])
    generator = torch.Generator().manual_seed(0)
    popular = Negatives(counts / counts.sum(), 1, popular=36_000).sources(torch.tensor([0]), generator)[2]
    assert np.bincount(popular, minlength=4).tolist() == pytest.approx([8000, 0, 27000, 1000], abs=500)


def test_among_lists_against_sets() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        items = np.flatnonzero(rng.random(12) < 0.5)
        lists = rng.integers(-1, 12, (3, 4))
        found = among(torch.from_numpy(items), torch.from_numpy(lists)) if len(items) else torch.empty(3, 0)
        assert found.tolist() == [[item in row for item in items.tolist()] for row in lists.tolist()]


def test_targets_are_barred_where_they_are_among_the_items() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        items = np.sort(generator.choice(20, generator.integers(1, 15), replace=False))
        targets = generator.integers(20, size=9)
        barred = generator.random((9, len(items))) < 0.3
        found = with_targets(torch.from_numpy(barred.copy()), torch.from_numpy(items), torch.from_numpy(targets))
        assert (found.numpy() == (barred | (items == targets[:, None]))).all()
