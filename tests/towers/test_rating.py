"""The rating head by hand."""

from __future__ import annotations

import math

import pytest
import torch

from towers.rating import RatingConfig, RatingHead

VECTORS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
ID_ROWS = torch.tensor([0, -1, 1])


@pytest.fixture
def head() -> RatingHead:
    """Mean 0.5, levels +0.1 (own and content), -0.2 (content), 0; taste one number an item; beta 1, gamma 2."""
    made = RatingHead(config=RatingConfig(dimension=1), item_dimension=2, ids=2).eval()
    with torch.no_grad():
        made.mean.fill_(0.5)
        made.level.weight[:2] = torch.tensor([[0.3], [0.0]])
        made.level_of.weight[:] = torch.tensor([[-0.2, -0.2]])
        made.level_of.bias.zero_()
        made.said.weight[:2] = torch.tensor([[1.0], [-2.0]])
        made.asked.weight[:2] = torch.tensor([[0.5], [1.0]])
        made.said_of.weight[:] = torch.tensor([[1.0, 3.0]])
        made.asked_of.weight[:] = torch.tensor([[0.5, 4.0]])
        for layer in (made.said_of, made.asked_of):
            layer.bias.zero_()
        made.log_beta.fill_(0)
        made.log_gamma.fill_(math.log(2))
    return made


def ask(
    head: RatingHead, items: list[int], ratings: list[float], asked: list[int], mask: list[bool] | None = None
) -> list[float]:
    real = torch.tensor([mask or [True] * len(items)], dtype=torch.bool)
    past, felt = torch.tensor([items], dtype=torch.long), torch.tensor([ratings])
    return head(VECTORS, ID_ROWS, past, felt, real, torch.tensor([asked]))[0].tolist()


def test_levels(head: RatingHead) -> None:
    assert head.levels(VECTORS, ID_ROWS).tolist() == pytest.approx([0.6, 0.3, 0.5])


def test_two_ratings_by_hand(head: RatingHead) -> None:
    # surprises 1 - 0.6 = 0.4 and 0 - 0.3 = -0.3; person 0.1 / (2 + 1); said 1 + 1 = 2 and 3; over sqrt(2 + 2)
    person = 0.1 / 3
    taste = ((0.4 - person) * 2 + (-0.3 - person) * 3) / 2
    expected = [0.6 + person + taste * 1.0, 0.3 + person + taste * 4.0, 0.5 + person + taste * 1.0]
    assert ask(head, [0, 1], [1.0, 0.0], [0, 1, 2]) == pytest.approx(expected)


def test_unrated_and_padded_events_count_for_nothing(head: RatingHead) -> None:
    alone = ask(head, [0], [1.0], [1, 2])
    assert ask(head, [0, 1], [1.0, float("nan")], [1, 2]) == pytest.approx(alone)
    assert ask(head, [2, 0], [0.0, 1.0], [1, 2], [False, True]) == pytest.approx(alone)
    assert alone != pytest.approx([0.3, 0.5])


def test_without_ratings_it_is_the_items_level(head: RatingHead) -> None:
    assert ask(head, [], [], [2, 1, 0]) == pytest.approx([0.5, 0.3, 0.6])
    assert ask(head, [0, 1], [float("nan")] * 2, [2]) == pytest.approx([0.5])


def test_items_without_rows_of_their_own_learn_by_content_only(head: RatingHead) -> None:
    """The row for all of them stays zero, whatever is learned."""
    head.train()
    loss = head(
        VECTORS,
        ID_ROWS,
        torch.tensor([[1, 0]]),
        torch.ones(1, 2),
        torch.ones(1, 2, dtype=torch.bool),
        torch.tensor([[1]]),
    ).sum()
    loss.backward()
    for table in (head.level, head.said, head.asked):
        assert table.weight[2].abs().sum() == 0
        assert table.weight.grad is not None
        assert table.weight.grad[2].abs().sum() == 0
    assert head.level_of.weight.grad is not None
    assert head.level_of.weight.grad.abs().sum() > 0


def test_to_unit(head: RatingHead) -> None:
    values = torch.tensor([-0.5, 0.25, 1.5])
    assert head.to_unit(values).tolist() == [0, 0.25, 1]
    clicks = RatingHead(config=RatingConfig(objective="click"), item_dimension=2, ids=0)
    assert clicks.to_unit(torch.tensor([0.0, math.log(3)])).tolist() == pytest.approx([0.5, 0.75])
