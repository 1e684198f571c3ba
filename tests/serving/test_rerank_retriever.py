"""A retriever with steps: recipes, what the answer says of them, and what the search heeds for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from indexing.build import build_index
from serving.recommendations import Recommendations
from serving.rerank.diversity import Dpp, Mmr
from serving.rerank.exploration import EpsilonGreedy, Thompson
from serving.rerank.recipe import DEFAULT, STEPS, read_steps
from serving.rerank.rules import Block, Floor, Only, Pin, Quota
from serving.rerank.scores import Novelty, Rating
from serving.retriever import Retriever
from towers.errors import InputError
from training.measuring.off_policy import ips
from twotower.cli import app

USER = 7


@pytest.fixture(scope="module")
def shop(tiny_run: Any) -> Retriever:
    return Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog, tiny_run.log)


def ids(found: Recommendations) -> list[Any]:
    return [one.item for one in found]


def topics(run: Any, found: Recommendations) -> list[str]:
    return [run.catalog.table["topic"][row].as_py() for row in run.catalog.rows(ids(found))]


def test_the_default_is_the_rating_head(shop: Retriever) -> None:
    found = shop.recommend(user=USER, k=5)
    assert found.steps == ("rating",)
    assert found.to_json() == shop.recommend(user=USER, k=5, steps=[Rating()]).to_json()
    assert [one.places[-1] for one in found] == [1, 2, 3, 4, 5]
    bare = shop.recommend(user=USER, k=40, steps=[])
    assert bare.steps == ()
    assert [one.places for one in bare] == [(place,) for place in range(1, len(bare) + 1)]
    assert [one.score for one in bare] == [one.retrieval for one in bare]
    assert [ids(bare).index(item) + 1 for item in ids(found)] == [one.places[0] for one in found]


def test_the_answer_says_what_each_step_did(shop: Retriever) -> None:
    found = shop.recommend(user=USER, k=6, steps=[Mmr(0.5), Rating()])
    assert found.steps == ("rating", "mmr")
    assert [one.places[2] for one in found] == [1, 2, 3, 4, 5, 6]
    rated = shop.recommend(user=USER, k=40)
    assert [one.places[1] for one in found] == [ids(rated).index(one.item) + 1 for one in found]
    assert any(one.places[1] != one.places[2] for one in found)
    assert [one.score for one in found] == [rated[ids(rated).index(one.item)].score for one in found]
    told = json.loads(json.dumps(found.to_json()))
    assert told["steps"] == ["rating", "mmr"]
    assert told["items"][0]["places"] == [*found[0].places]
    assert "probability" not in told["items"][0]


def test_steps_of_the_retriever_and_of_one_request(tiny_run: Any, shop: Retriever, tmp_path: Path) -> None:
    (tmp_path / "steps.toml").write_text('[[steps]]\nname = "rating"\n[[steps]]\nname = "dpp"\nweight = 0.4\n')
    other = Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog, tiny_run.log, steps=tmp_path / "steps.toml")
    asked = {"user": USER, "k": 6}
    assert other.recommend(**asked).to_json() == shop.recommend(**asked, steps=[Rating(), Dpp(0.4)]).to_json()
    assert other.recommend(**asked, steps=DEFAULT).to_json() == shop.recommend(**asked).to_json()
    lively = shop.recommend(**asked, steps=[{"name": "mmr", "weight": 0.3}, Novelty(0.2)])
    assert lively.steps == ("novelty", "mmr")


def test_from_a_terminal(tiny_run: Any, shop: Retriever, tmp_path: Path) -> None:
    (tmp_path / "steps.toml").write_text('[[steps]]\nname = "mmr"\nweight = 0.5\nby = "topic"\n')
    paths = {"model": tiny_run.model_folder, "index": tiny_run.index_folder, "catalog": tiny_run.items}
    options = [f"--{name}={path}" for name, path in paths.items()]
    told = CliRunner().invoke(
        app, ["recommend", *options, "--history=m03,m05", "--json", f"--steps={tmp_path}/steps.toml"]
    )
    assert json.loads(told.stdout) == shop.recommend(history=["m03", "m05"], steps=[Mmr(0.5, by="topic")]).to_json()


def test_what_may_not_be_shown_leaves_enough_of_the_rest(tiny_run: Any) -> None:
    shallow = Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog, tiny_run.log, depth=3)
    usual = ids(shallow.recommend(user=USER, k=6))
    found = shallow.recommend(
        user=USER, k=6, steps=[Rating(), Block(items=tuple(usual[:3])), Block(items=("unknown",))]
    )
    assert len(found) == 6
    assert not set(ids(found)) & set(usual[:3])
    for step in (Only({"topic": "motors"}), Block(where={"topic": "music"})):
        found = shallow.recommend(user=USER, k=6, steps=[step])
        assert topics(tiny_run, found) == ["motors"] * 6
        both = shallow.recommend(user=USER, k=6, steps=[step], where={"title": {"<": "night"}})
        assert both.items
        assert set(topics(tiny_run, both)) == {"motors"}


def test_a_pinned_item_comes_from_far_and_keeps_its_figures(tiny_run: Any, shop: Retriever) -> None:
    everything = shop.recommend(user=USER, k=40, steps=[])
    last = everything[len(everything) - 1]
    shallow = Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog, tiny_run.log, depth=3)
    found = shallow.recommend(user=USER, k=3, steps=[Rating(), Pin({2: last.item})])
    assert found[1].item == last.item
    assert found[1].retrieval == pytest.approx(last.retrieval, abs=1e-6)
    assert found[1].rating == pytest.approx(last.rating, abs=1e-5)
    assert found[1].places[0] == 4
    assert found[1].places[2] == 2
    usual = shallow.recommend(user=USER, k=2)
    assert [found[0].item, found[2].item] == ids(usual)
    met = tiny_run.log.table.filter(np.array(tiny_run.log.table["user_id"]) == USER)["item_id"][0].as_py()
    for gone in (met, "unknown"):
        assert ids(shallow.recommend(user=USER, k=2, steps=[Rating(), Pin({1: gone})])) == ids(usual)
    steps = [Pin({1: last.item}), Block(items=(last.item,))]
    assert last.item not in ids(shallow.recommend(user=USER, steps=steps))
    other = {"music": "motors", "motors": "music"}[topics(tiny_run, everything)[-1]]
    assert last.item not in ids(shallow.recommend(user=USER, steps=steps[:1], where={"topic": other}))


def test_groups(tiny_run: Any, shop: Retriever) -> None:
    usual = topics(tiny_run, shop.recommend(user=USER, k=6))
    rare = min(("music", "motors"), key=usual.count)
    found = shop.recommend(user=USER, k=6, steps=[Rating(), Floor({"topic": rare}, 0.5)])
    assert topics(tiny_run, found).count(rare) == 3
    found = shop.recommend(user=USER, k=6, steps=[Rating(), Quota({"topic": rare}, 0)])
    assert topics(tiny_run, found).count(rare) == 0


def test_groups_are_filled_from_beyond_the_candidates(tiny_run: Any) -> None:
    """Four are candidates, of both kinds; of the one that is wanted the best are found, under the same filters."""
    shallow = Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog, tiny_run.log, depth=1)
    asked: dict[str, Any] = {"history": ["m01", "m03", "m05"], "k": 4}
    every = shallow.recommend(**asked | {"k": 40}, steps=[])
    motors, music = ([one for one in every if int(one.item[1:]) % 2 == odd] for odd in (1, 0))
    assert len(set(topics(tiny_run, every)[:4])) == 2
    floor, quota = Floor({"topic": "music"}, 1.0), Quota({"topic": "motors"}, 1)
    fewer = [one for one in every if one not in motors[1:]]
    for steps, where, expected in (
        ([floor], None, music[:4]),
        ([quota], None, fewer[:4]),
        ([quota, Block(items=(music[1].item,))], None, [one for one in fewer if one != music[1]][:4]),
        ([quota], {"topic": "motors"}, motors[:1]),
        ([floor, Block(where={"topic": "music"})], None, motors[:4]),
    ):
        found = shallow.recommend(**asked, where=where, steps=steps)
        assert ids(found) == [one.item for one in expected]
        assert [one.retrieval for one in found] == pytest.approx([one.retrieval for one in expected], abs=1e-6)


def test_a_list_that_was_drawn_says_how_probable_it_was(shop: Retriever) -> None:
    usual, clicks, logged, target = ids(shop.recommend(user=USER, k=1))[0], [], [], []
    for seed in range(60):
        (one,) = shop.recommend(user=USER, k=1, steps=[Rating(), EpsilonGreedy(0.5, seed=seed)])
        clicks.append(float(one.item == usual))
        logged.append(one.probability)
        target.append(float(one.item == usual))
    assert len(set(logged)) == 2
    assert 0 < sum(clicks) < 60
    estimate = ips(np.array(clicks), np.array(logged), np.array(target))
    assert estimate.low <= 1 <= estimate.high
    found = shop.recommend(user=USER, k=4, steps=[Rating(), Thompson(0.2, seed=1)]).to_json()
    assert all(0 < one["probability"] <= 1 for one in found["items"])


def test_novelty_needs_a_log_and_counts_what_speaks_for_people(tiny_run: Any, shop: Retriever) -> None:
    counts = np.bincount(tiny_run.log.histories(tiny_run.catalog)[1].items, minlength=40)
    found = shop.recommend(user=USER, k=40, steps=[Novelty(1.0)])
    shown = counts[tiny_run.catalog.rows(ids(found))]
    assert (np.diff(shown) >= 0).all()
    bare = Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog)
    with pytest.raises(InputError, match="without a log"):
        bare.recommend(history=["m03"], steps=[Novelty(0.5)])


def test_attributes_are_those_of_the_index(tiny_run: Any) -> None:
    """As items change there, and the catalog in hand may be older."""
    table = tiny_run.catalog.table
    turned = table.set_column(
        2, "topic", [["motors" if one == "music" else "music" for one in table["topic"].to_pylist()]]
    )
    catalog = type(tiny_run.catalog).read(turned)
    shop = Retriever(tiny_run.model, tiny_run.index, catalog, tiny_run.log)
    found = shop.recommend(user=USER, k=5, steps=[Only({"topic": "music"})])
    assert topics(tiny_run, found) == ["music"] * 5


def test_every_step_can_be_asked_for(shop: Retriever) -> None:
    settings: dict[str, dict[str, Any]] = {
        "only": {"where": {"topic": "music"}},
        "pin": {"places": {"1": "m04"}},
        "quota": {"where": {"topic": "music"}, "most": 2},
        "floor": {"where": {"topic": "music"}, "share": 0.5},
        "epsilon-greedy": {"epsilon": 0.1},
        "thompson": {"noise": 0.1},
    }
    for name in STEPS:
        weight = {} if name in ("rating", "block") else {"weight": 0.5}
        found = shop.recommend(user=USER, k=4, steps=[{"name": name, **settings.get(name, weight)}])
        assert found.steps == (name,)
        assert len(found) >= 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[[steps]]\nname = "mmrr"\nweight = 0.3', "step 1: re-ranking has no step 'mmrr' .did you mean 'mmr'"),
        ('[[steps]]\nname = "mmr"\nweigth = 0.3', "has no setting 'weigth' .did you mean 'weight'"),
        ('[[steps]]\nname = "mmr"', r"step 1 \(mmr\): weight is missing"),
        (
            '[[steps]]\nname = "rating"\n[[steps]]\nname = "mmr"\nweight = 3',
            "step 2 .mmr.: weight: .* less than or equal to 1",
        ),
        ("[[steps]]\nweight = 3", "step 1: expected a name and settings"),
        ('[[step]]\nname = "mmr"', "has no key 'step' .did you mean 'steps'"),
        ("steps = 3", "written as"),
        ('[[steps]]\nname = "only"\nwhere = { year = { "~" = 3 } }', "'year' is compared by"),
        ("[[steps]", "cannot be read"),
    ],
)
def test_a_wrong_recipe_is_one_clear_sentence(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "steps.toml").write_text(text)
    with pytest.raises(InputError, match=told):
        read_steps(tmp_path / "steps.toml")


def test_no_recipe_at_the_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_steps(tmp_path / "none.toml")


def test_refreshing_keeps_the_steps(tiny_run: Any, tmp_path: Path) -> None:
    build_index(tiny_run.model, tiny_run.catalog, out=tmp_path / "index", progress=False)
    shop = Retriever(tiny_run.model, tmp_path / "index", tiny_run.catalog, tiny_run.log, steps=[Mmr(0.5)])
    build_index(tiny_run.model, tiny_run.catalog, out=tmp_path / "index", progress=False)
    newer = shop.refresh()
    assert newer is not shop
    assert newer.recommend(user=USER).steps == ("mmr",)
