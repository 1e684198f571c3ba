"""The item tower: kinds of content and own vectors, any of which may be missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from towers.contents import Contents
from towers.fusion import unit
from towers.item import ItemConfig, ItemTower

CONFIG = ItemConfig(dimension=6, hidden=8, id_dropout=0.5, content_dropout=0.5)
COUNT = 400
SIZES = {"text": 5, "image": 4, "audio": 3}


def make(ids: int = 3, **config: object) -> ItemTower:
    torch.manual_seed(0)
    return ItemTower(config=CONFIG.model_copy(update=config), contents=SIZES, ids=ids).eval()


def contents(present: dict[str, list[bool]]) -> Contents:
    vectors = {name: torch.randn(len(mask), SIZES[name]) for name, mask in present.items()}
    return Contents(vectors, {name: torch.tensor(mask) for name, mask in present.items()})


@pytest.mark.parametrize("fusion", ["gated", "mean", "attention"])
def test_each_mix_of_parts(fusion: str) -> None:
    """Whatever is missing: the vector is that of the parts that are there, whatever the fusion."""
    tower = make(fusion=fusion)
    seen = contents({"text": [True, True, False, False], "image": [True, False, True, False]})
    vectors = tower(seen, torch.tensor([0, -1, 2, -1]))
    torch.testing.assert_close(vectors.norm(dim=1), torch.tensor([1.0, 1, 1, 0]))
    text, image = (tower.project(name)(seen.vectors[name]) for name in ("text", "image"))
    torch.testing.assert_close(vectors[1], unit(text[1]))
    parts = [[text[0], image[0], tower.id.weight[0]], [image[2], tower.id.weight[2]]]
    if fusion != "attention":  # gates begin alike
        torch.testing.assert_close(vectors[[0, 2]], torch.stack([unit(sum(some)) for some in parts]))
    only = Contents({"text": seen.vectors["text"]}, {"text": seen.present["text"]})
    torch.testing.assert_close(tower(only, torch.tensor([-1] * 4))[1], vectors[1])


@pytest.mark.parametrize("speed", [1.0, 20.0])
def test_own_vectors_turn_as_fast_as_they_are_told(speed: float) -> None:
    """They begin alike; a step of Adam moves each number by the rate, and what an item says by as many times that."""
    tower = make(id_speed=speed)
    nothing = contents({"text": [False] * 3})
    begin = tower.weighted(nothing, torch.arange(3))["id"].detach()
    torch.testing.assert_close(begin, make().weighted(nothing, torch.arange(3))["id"].detach())
    optimizer = torch.optim.Adam(tower.parameters(), lr=1e-3)
    tower.weighted(nothing, torch.arange(3))["id"].sum().backward()
    optimizer.step()
    tower.fusion.set_gate("id", 1.0)
    moved = begin - tower.weighted(nothing, torch.arange(3))["id"].detach()
    torch.testing.assert_close(moved, torch.full((3, 6), speed * 1e-3))


def test_attention_is_a_softmax_over_what_is_there() -> None:
    tower = make(fusion="attention")
    with torch.no_grad():
        tower.fusion.question.normal_()
        tower.fusion.kinds["image"].normal_()
    seen = contents({"text": [True, True], "image": [True, False]})
    parts = {"text": tower.text(seen.vectors["text"])[0], "image": tower.project("image")(seen.vectors["image"])[0]}
    scores = [
        torch.tanh(tower.fusion.key(unit(part) + tower.fusion.kinds[name])) @ tower.fusion.question
        for name, part in parts.items()
    ]
    first, second = torch.stack(scores).softmax(0)
    expected = unit(first * parts["text"] + second * parts["image"])
    torch.testing.assert_close(tower(seen, torch.tensor([-1, -1]))[0], expected)


@pytest.mark.parametrize("fusion", ["gated", "mean", "attention"])
def test_an_item_with_nothing_breaks_no_gradient(fusion: str) -> None:
    tower = make(fusion=fusion).train()
    tower(contents({"text": [True, False], "image": [True, False]}), torch.tensor([-1, -1])).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in tower.parameters() if p.grad is not None)


def test_content_that_is_not_there_is_not_looked_at() -> None:
    tower = make()
    seen = Contents({"text": torch.full((1, 5), float("nan"))}, {"text": torch.tensor([False])})
    torch.testing.assert_close(tower(seen, torch.tensor([1]))[0], unit(tower.id.weight[1]))


def test_own_vectors_are_dropped_only_where_there_is_content() -> None:
    tower = make().train()
    tower.text.eval()
    text, present = torch.randn(1, 5).expand(COUNT, 5), torch.arange(COUNT) % 2 == 0
    seen, rows = Contents({"text": text}, {"text": present}), torch.zeros(COUNT, dtype=torch.long)
    alone = tower.alone("text", text[:1])
    vectors = tower(seen, rows)
    dropped = torch.isclose(vectors, alone, atol=1e-6).all(1)
    torch.testing.assert_close(vectors[1::2], unit(tower.id.weight[:1]).expand(COUNT // 2, 6))
    assert 70 <= dropped[::2].sum().item() <= 130  # half of two hundred, more than four standard deviations
    tower.eval()
    assert not torch.isclose(tower(seen, rows), alone, atol=1e-6).all(1).any()


def test_a_kind_of_content_is_dropped_but_never_all() -> None:
    """Of two kinds with a share of a half each: both stay for a quarter, and for the quarter that would lose both."""
    tower = make(ids=0).train()
    for name in SIZES:
        tower.project(name).eval()
    text, image = torch.randn(1, 5).expand(COUNT, 5), torch.randn(1, 4).expand(COUNT, 4)
    everywhere = torch.ones(COUNT, dtype=torch.bool)
    vectors = tower(
        Contents({"text": text, "image": image}, {"text": everywhere, "image": everywhere}),
        torch.full((COUNT,), -1),
    )
    kinds = {
        "text": tower.alone("text", text[:1]),
        "image": tower.alone("image", image[:1]),
        "both": unit(tower.text(text[:1]) + tower.project("image")(image[:1])),
    }
    counts = {name: int(torch.isclose(vectors, one, atol=1e-6).all(1).sum()) for name, one in kinds.items()}
    assert sum(counts.values()) == COUNT
    assert 60 <= counts["text"] <= 140
    assert 60 <= counts["image"] <= 140
    one = tower(Contents({"text": text}, {"text": everywhere}), torch.full((COUNT,), -1))
    torch.testing.assert_close(one, kinds["text"].expand(COUNT, 6))


def test_a_tower_without_own_vectors() -> None:
    tower = make(ids=0)
    seen = contents({"text": [True, False]})
    vectors = tower(seen, torch.tensor([-1, -1]))
    torch.testing.assert_close(vectors[0], tower.alone("text", seen.vectors["text"])[0])
    assert vectors[1].tolist() == [0] * 6


def test_frozen_vectors_stand_side_by_side() -> None:
    seen = contents({"text": [True, False], "audio": [True, True]})
    found = seen.frozen()
    assert found.shape == (2, 8)
    np.testing.assert_allclose(found[0, :5], F.normalize(seen.vectors["text"], dim=1)[0])
    assert not found[1, :5].any()
    np.testing.assert_allclose(found[:, 5:], F.normalize(seen.vectors["audio"], dim=1), rtol=1e-6)
