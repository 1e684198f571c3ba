"""Tasks beside the contrastive ones, by hand and by finite differences; adding one is one function."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from towers.catalog import Catalog
from towers.contents import Contents
from towers.errors import InputError
from towers.history import Histories
from towers.ids import IdList
from towers.model import TwoTower
from towers.model_config import ModelConfig
from towers.text import TextConfig, TextEncoder
from training.config import Recipe, TrainConfig
from training.items import Items
from training.loop import _negatives
from training.measuring.protocols import last_event
from training.negatives import Known, Negatives
from training.objective import Objective
from training.ranks import Ranks
from training.sampling import Windows, windows
from training.step import Step
from training.tasks import TASKS, Click, Rating, nearest
from training.trainer import fit

COUNT, DIMENSION = 7, 8
NONE = math.nan
HISTORIES = Histories.of(
    [[0, 2, 1, 3], [4, 5], [1, 6, 5, 0, 2]],
    ratings=[[0.5, NONE, 1.0, 0.25], [NONE, NONE], [0.0, 0.75, NONE, 1.0, 0.5]],
)
ALL = windows(HISTORIES, np.array([2, 0]), 5, np.random.default_rng(0))


def make(
    tiny_bert: Path, *, sampled: bool = False, ranks: Ranks | None = None, unmet: tuple[int, ...] = (), **train: Any
) -> Objective:
    """Both towers in float64, without dropout, and the losses of these settings."""
    torch.manual_seed(0)
    encoder = TextEncoder.load(TextConfig(source=str(tiny_bert)))
    config = ModelConfig.model_validate({"item": {"dimension": DIMENSION, "hidden": 8}, "user": {"text": False}})
    model = TwoTower(config=config, encoder=encoder, ids=IdList(range(COUNT)), template="{title}")
    items = Items(
        Contents({"text": torch.randn(COUNT, encoder.dimension).double()}, {"text": torch.ones(COUNT) > 0}),
        torch.arange(COUNT),
        torch.tensor([n in unmet for n in range(COUNT)]),
    )
    counts = np.bincount(HISTORIES.items, minlength=COUNT)
    objective = Objective(
        model=model,
        items=items,
        known=Known(HISTORIES, COUNT),
        negatives=Negatives(counts / counts.sum(), 1) if sampled else None,
        config=TrainConfig(**train),
        ranks=ranks,
    )
    return objective.double().eval()


def losses_of(objective: Objective, seen: Windows = ALL) -> dict[str, Tensor]:
    return objective(seen, None, None, torch.Generator().manual_seed(0))


def everything(objective: Objective) -> tuple[Tensor, Tensor]:
    """Queries ``(B, T, D)`` of the windows, and all item vectors."""
    model = objective.model
    vectors = model.item(objective._ground.items.contents, objective._ground.items.id_rows)
    assert model.user.sequence is not None
    return model.user.sequence(vectors, ALL.inputs).detach(), vectors.detach()


def test_windows_know_what_the_next_item_was_rated() -> None:
    """Person 2 in the first row, person 0 in the second, whose window is one shorter."""
    assert ALL.targets.tolist() == [[6, 5, 0, 2], [0, 2, 1, 3]]
    expected = torch.tensor([[0.75, NONE, 1.0, 0.5], [NONE, NONE, 1.0, 0.25]])
    torch.testing.assert_close(ALL.ratings, expected, equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize("sampled", [False, True])
def test_rating_by_hand(tiny_bert: Path, sampled: bool) -> None:
    """The mean over the five rated targets; those without a rating are passed over."""
    objective = make(tiny_bert, sampled=sampled, rating_weight=0.5)
    head = objective.heads["rating"]
    assert isinstance(head, Rating)
    nn.init.normal_(head.product)
    found = losses_of(objective)
    queries, vectors = everything(objective)
    errors: list[float] = []
    for row, column in ((0, 0), (0, 2), (0, 3), (1, 2), (1, 3)):
        query, item = queries[row, column], vectors[ALL.targets[row, column]]
        logit = sum(float(w * q * v) for w, q, v in zip(head.product.detach(), query, item, strict=True))
        logit += float((head.of_query(query) + head.of_item(item)).detach())
        errors.append((1 / (1 + math.exp(-logit)) - float(ALL.ratings[row, column])) ** 2)
    assert found["rating"].item() == pytest.approx(np.mean(errors), rel=1e-9)
    assert found["loss"].item() == pytest.approx((found["sequence"] + 0.5 * found["rating"]).item(), rel=1e-12)


def test_reconstruction_by_hand(tiny_bert: Path) -> None:
    """The halves [1, 6, 5] and [0, 2], [0, 2] and [1, 3]; what was read and what nobody has met counts nothing."""
    objective = make(tiny_bert, unmet=(4,), contrastive_weight=0.0, reconstruction_weight=1.0)
    weights = torch.tensor([[1.0, 1.0, 2.0, 0.5], [1.0, 1.0, 1.0, 3.0]])
    queries, vectors = everything(objective)
    errors = []
    for row, (last, told, other) in enumerate([(2, {0: 2.0, 2: 0.5}, [3]), (2, {1: 1.0, 3: 3.0}, [5, 6])]):
        assert ALL.targets[row][2:].tolist() == list(told)
        rows = [*told, *other]
        scores = (vectors[rows] @ queries[row, last]).clamp(min=0).numpy()
        wanted = np.array([told.get(item, 0.0) for item in rows])
        errors.append(((scores / np.linalg.norm(scores) - wanted / np.linalg.norm(wanted)) ** 2).sum())
    found = losses_of(objective, replace(ALL, weights=weights))
    assert set(found) == {"loss", "reconstruction"}
    assert found["reconstruction"].item() == pytest.approx(np.mean(errors), rel=1e-9)


def test_reconstruction_reads_in_parts(tiny_bert: Path) -> None:
    """The same loss and gradients, a person at a time."""
    found = [make(tiny_bert, contrastive_weight=0.0, reconstruction_weight=1.0, part=part) for part in (256, 1)]
    losses = [losses_of(objective)["loss"] for objective in found]
    for loss in losses:
        loss.backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-12)
    whole, parts = (objective.model.item.id.weight.grad for objective in found)
    assert whole.abs().max() > 1e-4
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-12)


def test_reconstruction_has_the_whole_catalog() -> None:
    assert _negatives(TrainConfig(), np.ones(20_000)) is not None
    assert _negatives(TrainConfig(reconstruction_weight=0.1), np.ones(20_000)) is None


def test_squared_errors_are_weighed_as_such(tiny_bert: Path) -> None:
    """At first half of a squared error and all of a cross-entropy (arXiv 1705.07115)."""
    train = {"rating_weight": 1.0, "click_weight": 1.0, "reconstruction_weight": 1.0, "weighting": "uncertainty"}
    found = losses_of(make(tiny_bert, **train))
    expected = found["sequence"] + found["click"] + (found["rating"] + found["reconstruction"]) / 2
    assert found["loss"].item() == pytest.approx(expected.item(), rel=1e-9)


def test_sets_are_learned_by_reconstruction(tiny_bert: Path, catalog: Catalog) -> None:
    """Two kinds of people, apart in what they have: after training each finds the rest of their kind."""
    kinds = Histories.of([[0, 1, 2, 6], [3, 4, 5], [6, 0, 1], [5, 3, 4], [1, 2, 0], [2, 6, 1], [4, 5, 3]] * 4)
    values = recipe(tiny_bert, contrastive_weight=0, reconstruction_weight=1, epochs=30, rate=0.05).model_dump()
    values["user"]["sequence"] = {"ordered": False, "length": 8}
    values["item"]["text"] = False
    model, report = fit(catalog, *last_event(kinds), Recipe.read(values), rated=kinds, progress=False)
    losses = [entry["reconstruction"] for entry in report.epochs]
    assert losses[-1] < losses[0] - 0.2
    vectors = model.embed_items(catalog)
    asked = model.encode(Histories.of([[0, 1], [5, 4]]), model.memory(catalog, vectors)) @ vectors.T
    assert set(asked[0].argsort()[-4:]) == {0, 1, 2, 6}
    assert set(asked[1].argsort()[-3:]) == {3, 4, 5}


@pytest.mark.parametrize("sampled", [False, True])
def test_clicks_by_hand(tiny_bert: Path, sampled: bool) -> None:
    """What was taken and, beside each, what was drawn, where it is nothing they know and somebody has met it."""
    objective = make(tiny_bert, sampled=sampled, unmet=(4,), contrastive_weight=0.0, click_weight=1.0)
    head = objective.heads["click"]
    with torch.no_grad():
        head.bias.fill_(0.3)
    generator = torch.Generator().manual_seed(0)
    if sampled:  # the sample is drawn first
        Negatives(np.ones(COUNT), 1).draw(ALL.targets[ALL.inputs.mask], 2, generator)
    drawn = torch.randint(COUNT, (7,), generator=generator).tolist()
    queries, vectors = everything(objective)
    scale, losses, passed_over = float(objective.model.scale.detach()), [], 0
    places = [(row, column) for row in range(2) for column in range(4) if ALL.inputs.mask[row, column]]
    assert len(places) == len(drawn)
    for (row, column), other in zip(places, drawn, strict=True):
        known = set(HISTORIES.take([[2, 0][row]]).items.tolist())
        query = queries[row, column]
        losses.append(math.log1p(math.exp(-scale * float(query @ vectors[ALL.targets[row, column]]) - 0.3)))
        if other in known or other == 4:
            passed_over += 1
        else:
            losses.append(math.log1p(math.exp(scale * float(query @ vectors[other]) + 0.3)))
    assert 0 < passed_over < 7
    found = losses_of(objective)
    assert set(found) == {"loss", "click"}
    assert found["click"].item() == pytest.approx(np.mean(losses), rel=1e-9)


def test_what_was_drawn_is_looked_up_pair_by_pair(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody beside everything that was drawn would be a matrix of which one value a column is used."""
    objective = make(tiny_bert, contrastive_weight=0.0, click_weight=1.0)
    expected = losses_of(objective)["click"].item()
    monkeypatch.setattr(Known, "of", None)
    assert losses_of(objective)["click"].item() == expected


def test_what_counts_more_teaches_more(tiny_bert: Path) -> None:
    """Each loss is the mean of those of single events, as much as each counts."""
    objective = make(tiny_bert, rating_weight=1.0, click_weight=1.0)
    mask, weights = ALL.inputs.mask, torch.tensor([[0.0, 2.0, 0.5, 1.0], [0.0, 3.0, 0.25, 1.5]])
    found = losses_of(objective, replace(ALL, weights=weights))
    expected = dict.fromkeys(("sequence", "rating", "click"), 0.0)
    for row, column in mask.nonzero().tolist():
        one = torch.zeros(2, 4)
        one[row, column] = 1.0
        for name, loss in losses_of(objective, replace(ALL, weights=one)).items():
            if name in expected:
                expected[name] += float(weights[row, column]) * loss.item()
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value, rel=1e-9)
        assert found[name].item() != pytest.approx(losses_of(objective)[name].item(), rel=1e-3)


def slope(objective: Objective, weight: Tensor, place: int, step: float = 1e-6) -> float:
    """How fast the loss rises with one weight, by central differences."""
    found = []
    for change in (step, -step):
        with torch.no_grad():
            weight.view(-1)[place] += change
            found.append(losses_of(objective)["loss"].item())
            weight.view(-1)[place] -= change
    return (found[0] - found[1]) / (2 * step)


@pytest.mark.parametrize("name", ["rating", "click", "reconstruction"])
def test_gradients_reach_both_towers_and_are_those_of_finite_differences(tiny_bert: Path, name: str) -> None:
    """Of each tensor of weights, the steepest."""
    objective = make(tiny_bert, contrastive_weight=0.0, **{f"{name}_weight": 1.0})
    losses_of(objective)["loss"].backward()
    reached = []
    for weight_name, weight in objective.named_parameters():
        if weight.grad is not None and weight.grad.abs().max() > 1e-6:
            place = int(weight.grad.abs().argmax())
            steepest = weight.grad.flatten()[place].item()
            assert slope(objective, weight, place) == pytest.approx(steepest, rel=1e-5), weight_name
            reached.append(weight_name)
    head = (f"heads.{name}.",) if name in objective.heads else ()
    for part in ("model.item.id.", "model.item.contents.text.", "model.user.sequence.blocks.0.", *head):
        assert any(weight_name.startswith(part) for weight_name in reached), (part, reached)


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty"])
def test_two_processes_have_the_loss_and_the_gradients_of_one(tiny_bert: Path, weighting: str) -> None:
    """Their mean, though they have different numbers of rated events and of items that count as not taken."""
    train = {"rating_weight": 2.0, "click_weight": 0.5, "reconstruction_weight": 0.7, "weighting": weighting}
    whole = make(tiny_bert, **train)
    expected = losses_of(whole)
    expected["loss"].backward()
    parts = [make(tiny_bert, ranks=Ranks(rank, 2), **train) for rank in range(2)]
    found = [losses_of(part) for part in parts]
    for one in found:
        one["loss"].backward()
    for name, value in expected.items():
        assert (found[0][name] + found[1][name]).item() / 2 == pytest.approx(value.item(), rel=1e-12), name
    other = [dict(part.named_parameters()) for part in parts]
    for name, weight in whole.named_parameters():
        if weight.grad is not None:
            together = sum(one[name].grad for one in other if one[name].grad is not None) / 2
            torch.testing.assert_close(together, weight.grad, rtol=1e-9, atol=1e-12, msg=name)


def test_nothing_rated_in_a_step_costs_nothing(tiny_bert: Path) -> None:
    unrated = replace(ALL, ratings=torch.full_like(ALL.ratings, torch.nan))
    assert set(losses_of(make(tiny_bert, rating_weight=1.0), unrated)) == {"loss", "sequence"}


def test_who_knows_every_item_has_none_that_they_did_not_take(tiny_bert: Path) -> None:
    objective = make(tiny_bert, contrastive_weight=0.0, click_weight=1.0, unmet=(3, 4, 5, 6))
    found = losses_of(objective)["click"].item()  # 0, 1 and 2 are known to both
    queries, vectors = everything(objective)
    cosines = (queries[ALL.inputs.mask] * vectors[ALL.targets[ALL.inputs.mask]]).sum(-1)
    logits = objective.model.scale.detach() * cosines
    assert found == pytest.approx(nn.functional.softplus(-logits).mean().item(), rel=1e-9)


@pytest.mark.parametrize("name", ["sentence", "alone", "views", "rating", "click", "reconstruction", "contrastive"])
def test_a_weight_of_0_is_no_task(tiny_bert: Path, name: str) -> None:
    weights = dict.fromkeys(("rating_weight", "click_weight", "views_weight", "reconstruction_weight"), 1.0)
    found = make(tiny_bert, **{**weights, f"{name}_weight": 0.0})._tasks
    assert set(TASKS) - set(found) == ({"sequence", "text", "fused"} if name == "contrastive" else {name})


def spread(model: TwoTower, step: Step) -> Tensor:
    """A toy: queries and the items that they should find, as far apart as they are."""
    assert step.queries is not None
    queries, asked = step.queries
    distances = (queries - step.vectors_of(asked.targets[asked.own])).square().sum(-1)
    return step.ranks.mean(distances, len(asked.targets))


@pytest.fixture
def catalog(own_cache: Path) -> Catalog:
    return Catalog.read(pl.DataFrame({"item_id": range(COUNT), "title": [f"night {n}" for n in range(COUNT)]}))


def recipe(tiny_bert: Path, **train: Any) -> Recipe:
    return Recipe.read(
        {
            "text": {"source": str(tiny_bert)},
            "item": {"dimension": DIMENSION, "hidden": 8, "id_min_events": 1},
            "user": {"text": False},
            "train": {"epochs": 4, "evaluate_every": 2, "batch_people": 2, **train},
        }
    )


def trained(tiny_bert: Path, catalog: Catalog, histories: Histories = HISTORIES, **train: Any) -> dict[str, Any]:
    """The last entry of the report."""
    _, report = fit(catalog, *last_event(histories), recipe(tiny_bert, **train), rated=histories, progress=False)
    return report.epochs[-1]


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty"])
def test_adding_a_task_is_one_function(
    tiny_bert: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch, weighting: str
) -> None:
    """It then trains, is weighted, and its loss and gradient are reported."""
    monkeypatch.setitem(TASKS, "spread", spread)
    entry = trained(tiny_bert, catalog, weighting=weighting)
    assert 0 < entry["spread"] < 4
    assert entry["gradient/spread"] > 0
    assert ("weight/spread" in entry) == (weighting == "uncertainty")


def test_all_that_is_learned_is_reported(tiny_bert: Path, catalog: Catalog) -> None:
    entry = trained(tiny_bert, catalog, rating_weight=1.0, click_weight=1.0, weighting="uncertainty", rate=0.01)
    names = ("sequence", "rating", "click")
    assert {f"gradient/{name}" for name in names} | {f"weight/{name}" for name in names} <= set(entry)
    assert 0 < entry["rating"] < 0.5
    assert entry["weight/click"] != 1.0
    assert entry["weight/rating"] > 0.5  # what has a small loss counts more and more


def test_ratings_of_nobody_are_refused(tiny_bert: Path, catalog: Catalog) -> None:
    unrated = Histories(HISTORIES.offsets, HISTORIES.items)
    with pytest.raises(InputError, match=r"train\.rating_weight is above 0, but no training event has a rating"):
        trained(tiny_bert, catalog, unrated, rating_weight=1.0)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_all_the_same_rating_is_learned(tiny_bert: Path, catalog: Catalog, value: float) -> None:
    same = Histories(HISTORIES.offsets, HISTORIES.items, ratings=np.full(len(HISTORIES.items), value))
    entry = trained(tiny_bert, catalog, same, rating_weight=30.0, rate=0.1, epochs=40)
    assert entry["rating"] < 0.02
    assert np.isfinite(list(entry.values())).all()


def test_of_several_queries_the_nearest_is_asked() -> None:
    queries = torch.tensor([[[1.0, 0.0], [0.6, 0.8]], [[0.0, 1.0], [1.0, 0.0]]])
    items = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    assert nearest(queries, items).equal(torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    assert nearest(items, items) is items


def test_the_click_task_takes_any_length() -> None:
    assert [tuple(weight.shape) for weight in Click(3).parameters()] == [()]
