"""The set reader against plain loops, and what must not change its output."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from towers.fusion import unit
from towers.history import Histories
from towers.sequence_reader import SequenceBatch, SequenceConfig
from towers.set_reader import SetReader

DAY = 86_400.0
PASTS = [[2, 0, 3, 1], [1, 3], [4]]
HISTORIES = Histories.of(PASTS, times=[[0, DAY, 5 * DAY, 5 * DAY], [10, 10], [7]])
VECTORS = unit(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)))


@pytest.fixture
def reader() -> SetReader:
    torch.manual_seed(1)
    made = SetReader(config=SequenceConfig(ordered=False, length=6), dimension=8).eval()
    nn.init.normal_(made.turn.weight, std=0.4)
    return made


def turned(reader: SetReader, total: Tensor) -> Tensor:
    mean = total / total.norm()
    query = mean + reader.turn.weight @ mean
    return query / query.norm()


@torch.no_grad()
def test_against_plain_loops(reader: SetReader) -> None:
    """In training in the order given, so that each position is a set; the last one is all, in any order."""
    batch = SequenceBatch.of(HISTORIES, 6)
    found, last = reader.train()(VECTORS, batch), reader.eval()(VECTORS, batch)[:, -1]
    for person, past in enumerate(PASTS):
        for size in range(1, len(past) + 1):
            expected = turned(reader, VECTORS[past[:size]].sum(0))
            torch.testing.assert_close(found[person, 4 - len(past) + size - 1], expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(last[person], found[person, -1], rtol=0, atol=1e-6)


@torch.no_grad()
def test_old_items_count_half_for_every_half_life(reader: SetReader) -> None:
    found = reader(VECTORS, SequenceBatch.of(HISTORIES, 6), 2.5 * DAY)[:, -1]
    weights = torch.tensor([0.25, 2.0 ** (-4 / 2.5), 1.0, 1.0])
    expected = turned(reader, (weights[:, None] * VECTORS[[2, 0, 3, 1]]).sum(0))
    torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(found[1], turned(reader, VECTORS[[1, 3]].sum(0)), rtol=0, atol=1e-6)
    early = Histories.of([[2, 0], [1, 2, 3]], times=[[-9 * DAY - 60, -9 * DAY], [0, 1, 2]])  # the padding's time is 0
    found = reader(VECTORS, SequenceBatch.of(early, 6), 60)[0, -1]
    torch.testing.assert_close(found, turned(reader, VECTORS[2] / 2 + VECTORS[0]), rtol=0, atol=1e-6)
    shortest = reader(VECTORS, SequenceBatch.of(HISTORIES, 6), 1e-6)[:, -1]
    torch.testing.assert_close(shortest[0], turned(reader, VECTORS[[3, 1]].sum(0)), rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_set_is_read_alike_in_every_order_and_a_new_reader_gives_the_mean(reader: SetReader) -> None:
    several = SequenceBatch.of(Histories.of([[2, 0, 3, 1], [3, 1, 0, 2], [3, 1, 0, 4]]), 6)
    last = reader(VECTORS, several)[:, -1]
    assert torch.equal(last[0], last[1])
    assert (last[0] - last[2]).abs().max() > 0.005
    plain = SetReader(config=reader.config, dimension=8)(VECTORS, several)[:, -1]
    torch.testing.assert_close(plain[0], unit(VECTORS[:4].mean(0)), rtol=0, atol=1e-6)


@torch.no_grad()
def test_what_was_met_several_times_counts_once_by_its_newest_event(
    reader: SetReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is added up in the order of rows, so that the sum has the same bits."""
    again = Histories.of([[3, 1, 3, 0, 3]], times=[[0, DAY, 2 * DAY, 2 * DAY, 3 * DAY]])
    read, seen = SetReader.read, []
    monkeypatch.setattr(SetReader, "read", lambda self, *given: seen.append(given[1]) or read(self, *given))
    found = reader(VECTORS, SequenceBatch.of(again, 6), DAY)[0, -1]
    expected = turned(reader, (torch.tensor([0.25, 0.5, 1.0])[:, None] * VECTORS[[1, 0, 3]]).sum(0))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    (batch,) = seen
    assert batch.items[batch.mask].tolist() == [0, 1, 3]


@torch.no_grad()
def test_without_each_item_is_what_reading_without_it_gives(reader: SetReader) -> None:
    past = HISTORIES.take([0])
    for half_life in (None, 2 * DAY):
        found = reader.without_each(VECTORS, SequenceBatch.of(past, 6), half_life)
        left = reader(VECTORS, SequenceBatch.of(past.without_each(past.items), 6), half_life)[:, -1]
        torch.testing.assert_close(found, left, rtol=0, atol=1e-6)
    assert reader.without_each(VECTORS, SequenceBatch.of(Histories.of([[4]]), 6)).tolist() == [[0.0] * 8]


@torch.no_grad()
def test_what_is_hidden_is_not_there(reader: SetReader) -> None:
    batch = SequenceBatch.of(Histories.of([[2, 0, 3]]), 6)
    hidden = replace(batch, hidden=torch.tensor([[False, True, False]]))
    without = SequenceBatch.of(Histories.of([[2, 3]]), 6)
    torch.testing.assert_close(reader(VECTORS, hidden)[0, -1], reader(VECTORS, without)[0, -1])
