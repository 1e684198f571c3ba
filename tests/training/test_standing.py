"""How items stand before anybody asks: what is popular of late, and what nobody has met yet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from towers.catalog import Catalog
from towers.contents import Contents
from towers.fusion import MaskedFusion
from towers.history import Histories
from towers.ids import IdList
from towers.model import TwoTower
from towers.model_config import ModelConfig
from towers.text import TextConfig, TextEncoder
from towers.trend import DAY
from towers.user import Memory
from training.measuring.splits import Questions
from training.standing import ENOUGH, LEVELS, NEW_WEIGHTS, _best_level, choose_level, choose_new_weights, choose_trend

ITEMS, PEOPLE = 24, 30


@pytest.fixture
def model(tiny_bert: Path, own_cache: Path) -> TwoTower:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"user": {"text": False}, "item": {"dimension": 8, "hidden": 8}})
    encoder = TextEncoder.load(TextConfig(source=str(tiny_bert)))
    return TwoTower(config=config, encoder=encoder, ids=IdList(range(ITEMS)), template="{title}").eval()


@pytest.fixture
def memory(model: TwoTower) -> Memory:
    catalog = Catalog.read(pl.DataFrame({"item_id": range(ITEMS), "title": [f"night {n}" for n in range(ITEMS)]}))
    return model.memory(catalog, model.embed_items(catalog))


def test_the_trend_is_the_one_that_ranks_best(model: TwoTower, memory: Memory) -> None:
    """Everybody goes on to what is new: weight is given, old events are soon forgotten; or the reverse."""
    old, new = np.arange(12), np.arange(12, 24)
    items, times = np.concatenate([np.repeat(old, 19), new]), np.repeat([0, 30 * DAY], [228, 12])
    past = Histories(np.array([0, 240]), items, times=times)
    histories = Histories(np.arange(PEOPLE + 1), np.arange(PEOPLE) % 12)
    queries = model.encode(histories, memory)
    for liked, given in ((new, True), (old, False)):
        targets = Histories(np.arange(PEOPLE + 1), liked[(np.arange(PEOPLE) + 1) % 12])
        report = choose_trend(model, memory, Questions(np.arange(PEOPLE), histories, targets), queries, past)
        assert report is not None
        assert report["ndcg@20"][f"{report['weight']:g} in {report['half_life_days']:g} days"] == max(
            report["ndcg@20"].values()
        )
        assert model.trend_weight.item() == report["weight"]
        assert model.trend_half_life.item() == report["half_life_days"]
        assert (model.trend_weight.item() > 0 and model.trend_half_life.item() == 3) == given
        bonus = model.standing(past, ITEMS)
        if given:
            late = np.log1p(2 * np.where(np.arange(ITEMS) < 12, 19 / 1024, 1))
            np.testing.assert_allclose(bonus * float(model.scale.detach()), report["weight"] * late, rtol=1e-5)


def test_without_times_there_is_no_trend(model: TwoTower, memory: Memory) -> None:
    histories = Histories.of([[0], [1]])
    questions = Questions(np.arange(2), histories, Histories.of([[1], [0]]))
    assert choose_trend(model, memory, questions, model.encode(histories, memory), histories) is None
    assert model.standing(histories, ITEMS) is None


@pytest.mark.parametrize(("asks_by", "expected"), [("text", {0.3, 0.1, 0.05}), ("audio", {max(NEW_WEIGHTS)})])
def test_new_items_are_read_by_the_kind_that_finds_them(
    tiny_bert: Path, own_cache: Path, asks_by: str, expected: set[float]
) -> None:
    """Half of 80 items are new; people ask by one kind of their content alone, and known items stay as they were."""
    torch.manual_seed(0)
    shape = {
        "user": {"text": False},
        "item": {"dimension": 8, "hidden": 8},
        "audio": {"source": "vectors", "length": 5},
    }
    encoder = TextEncoder.load(TextConfig(source=str(tiny_bert)))
    model = TwoTower(
        config=ModelConfig.model_validate(shape), encoder=encoder, ids=IdList(range(40)), template="{title}"
    ).eval()
    assert isinstance(model.item.fusion, MaskedFusion)
    model.item.fusion.set_gate(asks_by, 0.2)  # known items have little use for it
    vectors = {"text": torch.randn(80, encoder.dimension), "audio": torch.randn(80, 5)}
    contents = Contents(vectors, {name: torch.ones(80, dtype=torch.bool) for name in vectors})
    id_rows = torch.cat([torch.arange(40), torch.full((40,), -1)])
    targets = 40 + np.arange(2 * ENOUGH) % 40
    with torch.inference_mode():
        queries = model.item.alone(asks_by, vectors[asks_by][targets]).numpy()
    past = Histories(np.arange(2 * ENOUGH + 1), np.arange(2 * ENOUGH) % 40)
    before = model.item_vectors(contents, id_rows)
    questions = Questions(np.arange(2 * ENOUGH), past, Histories(np.arange(2 * ENOUGH + 1), targets))
    report = choose_new_weights(model, contents, id_rows, questions, queries, past)
    assert report is not None
    weight = round(report["weights"]["audio"], 6)
    assert weight in expected
    assert report["weights"] == {"text": 1.0, "audio": pytest.approx(weight)}
    assert model.item.new_weights.tolist() == [1.0, pytest.approx(weight)]
    assert report["recall@20"][f"audio {weight:g}"] == max(report["recall@20"].values())
    after = model.item_vectors(contents, id_rows)
    np.testing.assert_array_equal(after[:40], before[:40])
    assert (np.abs(after[40:] - before[40:]).max(axis=1) > 0.01).all()
    places = np.argsort(-(queries @ after[40:].T), axis=1)[:, :20]
    found = np.mean([target in row for target, row in zip(targets - 40, places, strict=True)])
    assert report["recall@20"][f"audio {weight:g}"] == pytest.approx(found)


def test_few_new_items_or_one_kind_leave_the_weights_alone(model: TwoTower, memory: Memory) -> None:
    past = Histories.of([[0], [1]])
    questions = Questions(np.arange(2), past, Histories.of([[5], [6]]))
    contents = Contents({"text": torch.randn(ITEMS, 32)}, {"text": torch.ones(ITEMS, dtype=torch.bool)})
    queries = model.encode(past, memory)
    assert choose_new_weights(model, contents, torch.arange(ITEMS), questions, queries, past) is None
    assert model.item.new_weights.tolist() == [1.0]


class NewItems:
    """Everybody asks alike. Ten items are new and a little further off than forty old ones; half of the people want the
    nearest old one next, the others the nearest new one."""

    OLD, NEW = 50, 10

    def __init__(self, people: int = 2 * ENOUGH) -> None:
        cosines = np.concatenate([0.9 - 0.001 * np.arange(self.OLD), 0.8 - 0.00001 * np.arange(self.NEW)])
        self.vectors = np.zeros((self.OLD + self.NEW, 8), np.float32)
        self.vectors[:, 0], self.vectors[:, 1] = cosines, np.sqrt(1 - cosines**2)
        self.memory = Memory(torch.from_numpy(self.vectors), torch.full((60,), -1), None)
        self.past = Histories(np.array([0, self.OLD]), np.arange(self.OLD))
        targets = np.where(np.arange(people) % 2, self.OLD, 0)
        histories = Histories(np.arange(people + 1), np.full(people, 30))
        self.questions = Questions(np.arange(people), histories, Histories(np.arange(people + 1), targets))
        self.queries = np.zeros((people, 8), np.float32)
        self.queries[:, 0] = 1
        content = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
        content[self.OLD] = content[30]  # content neighbours of what all have met find the new one
        self.content = content

    def choose(self, model: TwoTower, margin: float) -> dict | None:
        return choose_level(
            model, self.memory, self.questions, self.queries, self.past, content=self.content, margin=margin
        )


def test_the_level_is_the_cheapest_at_which_new_items_are_found(model: TwoTower) -> None:
    """The scale is exp(2.7): a level of 1.5 is worth .1008, so that .8 passes .9; 1 is worth .067 and passes nothing
    that counts."""
    world = NewItems()
    report = world.choose(model, 1.0)
    assert report is not None
    assert report["by_content"] == 1
    assert (report["level"], report["weight"]) == (1.5, 0)
    assert model.level.item() == 1.5
    found = report["recall@20/cold"]
    assert {level: found[f"{level:g} beside 0"] for level in LEVELS} == {level: level >= 1.5 for level in LEVELS}
    ndcg = report["ndcg@20"]
    assert ndcg["0 beside 0"] == pytest.approx((1 + 0) / 2)
    assert ndcg["1.5 beside 0"] == pytest.approx((1 / np.log2(12) + 1) / 2, abs=1e-6)  # behind ten new ones, and first


def test_where_no_level_is_enough_it_is_the_one_that_finds_most(model: TwoTower) -> None:
    report = NewItems().choose(model, 3.0)
    assert report is not None
    assert report["level"] == 1.5


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [(0.1, (0.5, 0.0)), (0.2, (1.0, 0.5)), (0.3, (1.0, 0.5))],
    ids=["the cheapest that is enough", "what is enough costs too much", "nothing is enough"],
)
def test_new_items_never_cost_more_than_a_third(wanted: float, chosen: tuple[float, float]) -> None:
    """By level and trend: recall of new items, NDCG of all; 0.2 is the least NDCG that is allowed beside 0.3."""
    reached = {(0.0, 0.0): (0.0, 0.3), (0.5, 0.0): (0.1, 0.25), (1.0, 0.5): (0.15, 0.2), (3.0, 0.0): (0.25, 0.19)}
    assert _best_level(reached, wanted) == chosen


@pytest.mark.parametrize(("people", "margin"), [(2 * ENOUGH - 2, 1.0), (2 * ENOUGH, 0.0)])
def test_the_level_stays_where_nobody_can_tell_or_nobody_wants_it(model: TwoTower, people: int, margin: float) -> None:
    assert NewItems(people).choose(model, margin) is None
    assert model.level.item() == 0


def test_standing_is_the_trend_and_the_level_of_what_nobody_has_met(model: TwoTower) -> None:
    log = Histories(np.array([0, 3]), np.array([0, 2, 2]), times=np.array([0.0, 0.0, 14 * DAY]))
    assert model.standing(log, 4) is None
    model.level.fill_(0.5)
    model.trend_weight.fill_(2.0)
    expected = np.array([2 * np.log1p(2 * 0.5), 0.5, 2 * np.log1p(2 * 1.5), 0.5]) / np.exp(2.7)
    np.testing.assert_allclose(model.standing(log, 4), expected, rtol=1e-5)
