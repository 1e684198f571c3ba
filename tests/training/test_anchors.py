"""Anchors: the right events, the right texts, and cached work that is the same as work done anew."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from towers.history import Histories
from towers.history_text import HistoryText, HistoryTextConfig
from towers.text import TextConfig, TextEncoder
from towers.text_reader import TextReader, TextReaderConfig
from training.anchors import Anchors, AnchorTexts
from training.sampling import Windows, target_chances, windows

CPU = torch.device("cpu")
ITEMS = ["quiet piano", "fast engine", "", "night race", "evening rain"]
BUDGET = 32  # tokens of a history
BF16 = 2**-7  # half a step of bfloat16 is 2**-9; layers above enlarge it


@pytest.fixture
def histories() -> Histories:
    return Histories.of(
        [[0, 1, 3, 4, 0, 1], [2, 2, 4], [3], [4, 3, 1]],
        times=[[0, 10, 9e4, 9e5, 9e5, 9e6], [0, 1, 2], [5], [0, 1, 3e7]],
        ratings=[[0, 0.5, 1, float("nan"), 0.3, 1], [1, 1, 1], [1], [0.1, 0.9, 0.5]],
    )


def make(
    tiny_bert: Path, histories: Histories, *, budget: int, tune: int | Literal["all"] = 1, each: int = 3
) -> tuple[Anchors, TextReader, HistoryText]:
    torch.manual_seed(0)
    encoder = TextEncoder.load(TextConfig(source=str(tiny_bert)))
    reader = TextReader(config=TextReaderConfig(tune=tune), encoder=encoder, hidden=8, dimension=8)
    text = HistoryText(config=HistoryTextConfig(budget=BUDGET), items=ITEMS, tokenize=encoder.tokenize)
    rng = np.random.default_rng(0)
    return Anchors(histories=histories, reader=reader, text=text, each=each, budget=budget, rng=rng), reader, text


def step(anchors: Anchors, histories: Histories, each: int = 3) -> tuple[AnchorTexts, Windows]:
    seen = windows(histories, np.array([3, 0, 1]), 10, np.random.default_rng(1))
    found = anchors.texts(seen, each, np.random.default_rng(2), CPU)
    assert found is not None
    return found, seen


def prefixes(histories: Histories, found: AnchorTexts, seen: Windows) -> Histories:
    """What each anchor's person had done up to the anchor."""
    events = seen.events[found.rows, found.columns].numpy()
    people = seen.people[found.rows.numpy()]
    return histories.cut(people, histories.offsets[people], events + 1)


def test_rows_and_columns_point_at_the_anchors(tiny_bert: Path, histories: Histories) -> None:
    anchors, _, _ = make(tiny_bert, histories, budget=10**6)
    found, seen = step(anchors, histories)
    events = seen.events[found.rows, found.columns].tolist()
    assert seen.inputs.mask[found.rows, found.columns].all()
    # Person 1 met nothing but items without text before the last event: there is nothing to read.
    assert sorted(events) == anchors.events.tolist()
    assert 4 in events  # the last event of the first person that has a successor
    assert set(histories.people[anchors.events].tolist()) == {0, 3}
    assert torch.bincount(step(anchors, histories, each=1)[0].rows).tolist() == [1, 1]


def test_how_likely_an_anchor_is_read_is_how_often_it_is_read(tiny_bert: Path) -> None:
    """In windows of 4 of a past of 12, two of its anchors at most."""
    past = Histories.of([[0, 1, 3, 4] * 3, [4, 3, 1]])
    anchors, rng, draws = make(tiny_bert, past, budget=10**6, each=6)[0], np.random.default_rng(5), 3000
    seen = windows(past, np.tile([0, 1], draws), 4, rng)
    read = anchors.texts(seen, 2, rng, CPU)
    assert read is not None
    found = np.bincount(seen.events[read.rows, read.columns].numpy() + 1, minlength=len(past.items))
    follows = np.zeros(len(past.items), bool)
    follows[anchors.events + 1] = True
    expected = target_chances(past, 4, chosen=follows, most=2)
    assert found / draws == pytest.approx(expected, abs=5 * (0.25 / draws) ** 0.5)
    assert 0 < expected[follows].min() < 0.2 < 0.6 < expected.max() == 1


def test_an_anchors_text_is_what_its_prefix_says(tiny_bert: Path, histories: Histories) -> None:
    """With everything tuned there are no states to keep, but token ids."""
    anchors, reader, text = make(tiny_bert, histories, budget=0, tune="all")
    found, seen = step(anchors, histories)
    ids, mask = reader.encoder.pad(text.tokens(prefixes(histories, found, seen)))
    assert found.start is None
    assert torch.equal(found.mask, mask)
    assert torch.equal(found.content, ids)
    assert len({tuple(row) for row in ids.tolist()}) == len(ids)


def test_cached_or_not_the_queries_agree(tiny_bert: Path, histories: Histories) -> None:
    cached, reader, text = make(tiny_bert, histories, budget=10**6)
    uncached, _, _ = make(tiny_bert, histories, budget=0)
    half, _, _ = make(tiny_bert, histories, budget=3_000)  # room for some
    reader.eval()
    found, seen = step(cached, histories)
    past = prefixes(histories, found, seen)
    ids, mask = reader.encoder.pad(text.tokens(past))
    expected = reader(ids, mask)
    assert found.start == 1
    for anchors in (cached, cached, uncached, uncached, half, half):
        again, _ = step(anchors, histories)
        assert torch.equal(again.mask, mask)
        states = reader.encoder.lower(ids, mask, 1)
        torch.testing.assert_close(again.content.float()[mask], states[mask], rtol=BF16, atol=BF16)
        torch.testing.assert_close(
            reader.read_hidden(again.content.float(), again.mask, 1), expected, rtol=0, atol=4 * BF16
        )
    assert len(cached.states._kept) == len(cached.events)
    assert cached.states._lengths.all()
    assert len(half.states._kept) == 3_000 // (2 * 32 * BUDGET) < len(half.events)
    assert half.states._lengths.all()
    assert not len(uncached.states._kept)


@pytest.mark.parametrize("budget", [0, 3_000, 10**6])
def test_no_value_depends_on_what_was_read_before(tiny_bert: Path, histories: Histories, budget: int) -> None:
    """Bit for bit, so that training may go on after a restart with nothing kept."""
    cold, warm = (make(tiny_bert, histories, budget=budget)[0] for _ in range(2))
    for person in (1, 3, 0):
        alone = windows(histories, np.array([person]), 10, np.random.default_rng(1))
        warm.texts(alone, 2, np.random.default_rng(3), CPU)
    expected = step(cold, histories)[0].content
    for anchors in (warm, warm, cold):
        assert torch.equal(step(anchors, histories)[0].content, expected)


def test_the_second_step_runs_no_frozen_layer(
    tiny_bert: Path, histories: Histories, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchors, _, _ = make(tiny_bert, histories, budget=10**6)
    first, _ = step(anchors, histories)

    def never(*_: object) -> None:
        raise AssertionError("a frozen layer ran again")

    monkeypatch.setattr(TextEncoder, "lower", never)
    second, _ = step(anchors, histories)
    assert torch.equal(first.content, second.content)

    # kept without the padding of the step that computed them: a step of short texts alone is narrow
    alone = windows(histories, np.array([3]), 10, np.random.default_rng(1))
    short = anchors.texts(alone, 3, np.random.default_rng(2), CPU)
    assert short is not None
    assert short.content.shape[:2] == short.mask.shape
    assert short.mask.shape[1] == int(short.mask.sum(1).max()) < first.mask.shape[1]


@pytest.mark.parametrize("budget", [0, 10**6])
def test_a_text_is_written_when_it_is_read_and_once_where_it_is_kept(
    tiny_bert: Path, histories: Histories, budget: int
) -> None:
    written: list[int] = []
    anchors, _, text = make(tiny_bert, histories, budget=budget)
    tokens = text.tokens
    text.tokens = lambda past: [written.append(len(past)), tokens(past)][1]  # type: ignore[method-assign,assignment]
    for person, expected in ((3, [2]), (3, [2] if budget else [2, 2]), (0, [2, 3] if budget else [2, 2, 3])):
        alone = windows(histories, np.array([person]), 10, np.random.default_rng(1))
        found = anchors.texts(alone, 3, np.random.default_rng(2), CPU)
        assert found is not None
        assert written == expected


def test_nothing_is_written_before_the_first_step(
    tiny_bert: Path, histories: Histories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HistoryText, "tokens", None)  # calling it would be a TypeError
    make(tiny_bert, histories, budget=10**6)


def test_a_text_that_is_asked_for_twice_is_read_once(tiny_bert: Path, histories: Histories) -> None:
    states = make(tiny_bert, histories, budget=10**6)[0].states
    asked: list[int] = []
    write = states._write
    states._write = lambda rows: [asked.extend(rows), write(rows)][1]
    content, mask = states.of(np.array([1, 0, 1]), CPU)
    assert asked == [0, 1]
    assert torch.equal(content[0], content[2])
    assert torch.equal(mask[0], mask[2])


def test_frozen_layers_drop_nothing_out(tiny_bert: Path, histories: Histories) -> None:
    anchors, reader, _ = make(tiny_bert, histories, budget=0)
    reader.train()
    one, two = (step(anchors, histories)[0] for _ in range(2))
    assert torch.equal(one.content, two.content)
    first, second = (reader.read_hidden(found.content.float(), found.mask, 1) for found in (one, two))
    assert not torch.equal(first, second)


def test_windows_without_anchors_give_none(tiny_bert: Path, histories: Histories) -> None:
    anchors, _, _ = make(tiny_bert, histories, budget=0)
    seen = windows(histories, np.array([1, 2]), 10, np.random.default_rng(1))
    assert anchors.texts(seen, 3, np.random.default_rng(2), CPU) is None
