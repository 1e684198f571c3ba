"""The sequence reader against plain loops, and what must not change its output."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from towers.errors import InputError
from towers.fusion import unit
from towers.history import Histories
from towers.left_out import without_each_event
from towers.sequence_reader import SequenceBatch, SequenceConfig, SequenceReader, gap_features

DAY = 86_400.0
HISTORIES = Histories.of(
    [[2, 0, 3, 1, 4], [1, 3], [], [4]],
    times=[[0, 60, 7000, 5 * DAY, 900 * DAY], [10, 10], [], [7]],
    ratings=[[0.0, float("nan"), 1.0, 0.25, 0.5], [1, float("nan")], [], [0.5]],
)
VECTORS = unit(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)))


def reader(length: int = 6, **off: Any) -> SequenceReader:
    torch.manual_seed(1)
    made = SequenceReader(config=SequenceConfig(length=length, **off), dimension=8).eval()
    with torch.no_grad():  # as after training: nothing is zero or tiny
        for weight in made.parameters():
            weight.normal_(std=0.4)
    return made


@pytest.mark.parametrize("half_life", [None, 4 * DAY])
@pytest.mark.parametrize("off", [{}, {"ratings": False}, {"gaps": False}, {"recent": 0}, {"recent": 3}])
def test_against_plain_loops(off: dict[str, Any], half_life: float | None) -> None:
    ours = reader(**off)
    batch = SequenceBatch.of(HISTORIES, 6)
    with torch.no_grad():
        outputs = ours(VECTORS, batch, half_life)
        double = ours.double()
        for person in range(len(HISTORIES)):
            size = int(HISTORIES.lengths[person])
            expected = by_loops(double, VECTORS.double(), HISTORIES.take([person]), half_life)
            torch.testing.assert_close(outputs[person, 5 - size :].double(), expected, rtol=0, atol=2e-5)


def test_by_width_holds_every_past_once_with_less_than_half_of_it_padding() -> None:
    batch = SequenceBatch.of(HISTORIES, 6)
    parts = {tuple(rows.tolist()): part for rows, part in batch.by_width()}
    assert {rows: part.items.shape[1] for rows, part in parts.items()} == {(2, 3): 1, (1,): 2, (0,): 5}
    for rows, part in parts.items():
        for row, items, mask in zip(rows, part.items, part.mask, strict=True):
            assert items[mask].tolist() == HISTORIES.items[HISTORIES.offsets[row] : HISTORIES.offsets[row + 1]].tolist()


def test_in_training_groups_are_filled_up_and_nothing_else_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 7, 100)
    pasts = Histories.of([rng.integers(0, 5, size).tolist() for size in lengths])
    batch, ours, vectors = SequenceBatch.of(pasts, 6), reader(dropout=0, input_dropout=0), VECTORS.clone()
    weights = [*ours.parameters(), vectors.requires_grad_()]

    def asked(training: bool) -> tuple[list[int], Tensor, tuple[Tensor | None, ...]]:
        read, sizes = SequenceReader.read, []
        with monkeypatch.context() as patch:
            patch.setattr(SequenceReader, "read", lambda *args: sizes.append(len(args[2].items)) or read(*args))
            outputs = ours.train(training)(vectors, batch)[batch.mask]
        return sizes, outputs, torch.autograd.grad((outputs * outputs.detach().cos()).sum(), weights, allow_unused=True)

    sizes, outputs, gradients = asked(training=True)
    real, expected, wanted = asked(training=False)
    assert sum(real) == 100
    assert [size % 3 for size in real] != [0] * len(real)
    assert sizes == [size + -size % 3 for size in real]
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-6)
    for gradient, one in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recent", [0, 3])
def test_of_a_short_half_life_only_the_newest_is_left_of_a_long_one_all(recent: int) -> None:
    ours, one, last = reader(recent=recent), HISTORIES.take([0]), Histories.of([[4]], times=[[0]], ratings=[[0.5]])
    with torch.no_grad():
        asked = {half_life: ours(VECTORS, SequenceBatch.of(one, 6), half_life)[0, -1] for half_life in (1, 1e12, None)}
        alone = ours(VECTORS, SequenceBatch.of(last, 6))[0, -1]
    torch.testing.assert_close(asked[1], alone, rtol=0, atol=1e-6)
    torch.testing.assert_close(asked[1e12], asked[None], rtol=0, atol=1e-4)
    assert (asked[1] - asked[None]).abs().max() > 0.02


def by_loops(reader: SequenceReader, vectors: Tensor, one: Histories, half_life: float | None = None) -> Tensor:
    """One event, one head, one earlier event at a time; no padding, no mask."""
    size, heads, width = len(one.items), reader.config.heads, 8 // reader.config.heads
    states = []
    for n in range(size):
        state = vectors[one.items[n]] * math.sqrt(math.sqrt(8)) + reader.positions[len(reader.positions) - size + n]
        if reader.rating is not None:
            felt = [0.0, 0.0] if np.isnan(one.ratings[n]) else [float(one.ratings[n]) - 0.5, 1.0]
            state = state + reader.rating(torch.tensor(felt, dtype=torch.float64))
        states.append(state)
    for block in reader.blocks:
        normed = [block.norm_attention(state) for state in states]
        projected = [block.project(state) for state in normed]
        after = []
        for n in range(size):
            parts = []
            for head in range(heads):
                query, *_ = (projected[n][8 * k + head * width :][:width] for k in range(3))
                logits, values = [], []
                for m in range(n + 1):
                    key, value = (projected[m][8 * k + head * width :][:width] for k in (1, 2))
                    logits.append(query @ key / math.sqrt(width))
                    values.append(value)
                    if reader.gap_bias is not None:
                        gap = torch.tensor(float(one.times[n] - one.times[m]), dtype=torch.float64)
                        logits[-1] = logits[-1] + reader.gap_bias.weight[head] @ gap_features(gap).double()
                share = torch.stack(logits).softmax(0)
                if half_life is not None:
                    ages = torch.from_numpy(one.times[n] - one.times[: n + 1])
                    share = share * 0.5 ** (ages / half_life)
                    share = share / share.sum()
                parts.append(sum(s * v for s, v in zip(share, values, strict=True)))
            found = block.join(torch.cat(parts))
            if reader.config.recent:
                newest = range(max(0, n + 1 - reader.config.recent), n + 1)
                weights = [0.5 ** (float(one.times[n] - one.times[m]) / (half_life or math.inf)) for m in newest]
                mean = sum(w * normed[m] for w, m in zip(weights, newest, strict=True)) / sum(weights)
                found = 0.7 * (mean + block.beyond * (normed[n] - mean)) + 0.3 * found
            state = states[n] + found
            after.append(state + block.feed(block.norm_feed(state)))
        states = after
    if not states:
        return torch.empty(0, 8, dtype=torch.float64)
    return torch.stack([F.normalize(reader.out(reader.norm(state)), dim=0) for state in states])


def test_gap_features_by_hand() -> None:
    features = gap_features(torch.tensor([0.0, 3.0, 2.0**16 - 1, 2.0**24 - 1]))
    expected = [[0, 0, 1, 1], [2 / 16, 4 / 256, 1, 1], [1, 1, 0, 1], [1.5, 2.25, 0, 0]]
    torch.testing.assert_close(features, torch.tensor(expected))


def test_a_batch_is_left_padded_and_keeps_the_newest() -> None:
    batch = SequenceBatch.of(HISTORIES, 3)
    nan = float("nan")
    assert batch.items.tolist() == [[3, 1, 4], [0, 1, 3], [0, 0, 0], [0, 0, 4]]
    assert batch.mask.tolist() == [[True] * 3, [False, True, True], [False] * 3, [False, False, True]]
    assert batch.times.tolist() == [[7000, 5 * DAY, 900 * DAY], [0, 10, 10], [0, 0, 0], [0, 0, 7]]
    expected = [[1, 0.25, 0.5], [nan, 1, nan], [nan, nan, nan], [nan, nan, 0.5]]
    np.testing.assert_array_equal(batch.ratings.numpy(), np.array(expected, np.float32))


def test_people_without_any_event_make_one_empty_column() -> None:
    batch = SequenceBatch.of(Histories.of([[], []]), 3)
    assert batch.mask.tolist() == [[False], [False]]
    assert reader()(VECTORS, batch).isfinite().all()


def test_the_future_changes_nothing() -> None:
    ours = reader()
    other = Histories.of([[2, 0, 3, 0, 2]], times=[[0, 60, 7000, 7001, 7002]], ratings=[[0.0, float("nan"), 1.0, 1, 1]])
    one, two = (ours(VECTORS, SequenceBatch.of(h, 6))[0] for h in (HISTORIES.take([0]), other))
    torch.testing.assert_close(one[:3], two[:3], rtol=0, atol=1e-6)
    assert ((one[3:] - two[3:]).abs().amax(1) > 0.01).all()


def test_padding_changes_nothing() -> None:
    ours = reader()
    together = ours(VECTORS, SequenceBatch.of(HISTORIES, 6))
    for person in (0, 1, 3):
        alone = ours(VECTORS, SequenceBatch.of(HISTORIES.take([person]), 6))[0]
        torch.testing.assert_close(together[person, -len(alone) :], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ratings", {"ratings": [[0.0, float("nan"), 1.0, 0.25, 0.0]]}),
        ("gaps", {"times": [[0, 60, 7000, 5 * DAY, 5 * DAY]]}),
    ],
)
def test_ratings_and_gaps_are_read_unless_off(name: str, change: dict[str, list[list[float]]]) -> None:
    one = HISTORIES.take([0])
    values = {"ratings": [one.ratings.tolist()], "times": [one.times.tolist()]}
    other = Histories.of([one.items.tolist()], **{**values, **change})
    for off in (False, True):
        ours = reader(**({name: False} if off else {}))
        a, b = (ours(VECTORS, SequenceBatch.of(h, 6))[0, -1] for h in (one, other))
        assert torch.equal(a, b) == off


def test_a_log_without_times_or_ratings() -> None:
    """No gap and no rating anywhere: as if all events were of one moment and unrated."""
    plain, told = Histories.of([[2, 0, 3]]), Histories.of([[2, 0, 3]], times=[[5, 5, 5]])
    ours = reader()
    assert torch.equal(ours(VECTORS, SequenceBatch.of(plain, 6)), ours(VECTORS, SequenceBatch.of(told, 6)))


def test_queries_have_unit_norm_and_old_times_are_exact() -> None:
    """Seconds since 1970 do not fit float32: a minute between two events must not vanish in it."""
    late = Histories.of([[2, 0]], times=[[1.7e9, 1.7e9 + 60]])
    early = Histories.of([[2, 0]], times=[[0, 60]])
    ours = reader()
    queries = ours(VECTORS, SequenceBatch.of(late, 6))
    torch.testing.assert_close(queries.norm(dim=-1), torch.ones(1, 2))
    assert torch.equal(queries, ours(VECTORS, SequenceBatch.of(early, 6)))


def test_heads_that_do_not_divide_the_dimension_are_refused() -> None:
    with pytest.raises(InputError, match=r"user\.sequence\.heads is 3, which does not divide item\.dimension 8"):
        SequenceReader(config=SequenceConfig(heads=3), dimension=8)


@pytest.mark.parametrize(
    "settings", [{}, {"blocks": 1}, {"blocks": 3, "gaps": False}, {"ratings": False}, {"recent": 0}, {"recent": 3}]
)
@pytest.mark.parametrize(("events", "half_life"), [(2, None), (7, 3 * DAY), (8, None), (9, None), (9, 3 * DAY)])
def test_without_each_event_is_what_reading_without_it_gives(
    settings: dict[str, Any], events: int, half_life: float | None
) -> None:
    """The reader reads 8 events; a ninth one comes into its sight when another is left out."""
    torch.manual_seed(0)
    reader = SequenceReader(config=SequenceConfig(length=8, **settings), dimension=16, interests=2).eval()
    if reader.gap_bias is not None:
        nn.init.normal_(reader.gap_bias.weight)
    for block in reader.blocks:
        if block.beyond is not None:
            nn.init.normal_(block.beyond)
    vectors = unit(torch.randn(20, 16))
    times, ratings = np.arange(events) ** 4 * 100.0, np.linspace(0, 1, events)
    past = Histories.of([list(range(5, 5 + events))], times=[times.tolist()], ratings=[ratings.tolist()])
    with torch.inference_mode():
        found = without_each_event(reader, vectors, SequenceBatch.of(past, 9), half_life)
        left = past.without_each(past.items[-8:])
        torch.testing.assert_close(
            found, reader(vectors, SequenceBatch.of(left, 8), half_life)[:, -1], atol=1e-5, rtol=0
        )
    assert found.shape == (min(events, 8), 2, 16)
