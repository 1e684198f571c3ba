"""Asking a retriever: the same person is the same everywhere, and nothing strange gets an answer."""

from __future__ import annotations

import copy
import inspect
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from indexing.build import build_index
from indexing.index import ItemIndex
from indexing.writer import IndexWriter
from serving.retriever import ASKED, Retriever
from towers.catalog import Catalog
from towers.errors import ArtefactError, InputError, TwoTowerError
from towers.history import Histories
from towers.interactions import Interactions, Positive
from towers.model import TwoTower
from towers.words import Words
from training.ranker import IndexRanker

ROOT = Path(__file__).resolve().parents[2]
USER = 7


@pytest.fixture(scope="module")
def shop(tiny_run: Any) -> Retriever:
    return Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog, tiny_run.log)


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Every query that a model makes while the test runs."""
    made: list[np.ndarray] = []
    encode = TwoTower.encode

    def recording(self: TwoTower, *args: Any) -> np.ndarray:
        made.append(encode(self, *args))
        return made[-1]

    monkeypatch.setattr(TwoTower, "encode", recording)
    return made


def met(run: Any, user: int) -> list[str]:
    """Items of a person, oldest first."""
    table = run.log.table.to_pylist()
    return [row["item_id"] for row in sorted(table, key=lambda row: row["timestamp"]) if row["user_id"] == user]


def answers(found: Any) -> list[tuple[Any, float]]:
    return [(one.item, one.score) for one in found]


def changed(model: TwoTower, **config: Any) -> TwoTower:
    """A copy with another configuration and the same weights."""
    other = copy.deepcopy(model)
    other.config = model.config.model_copy(update=config)
    return other


@pytest.mark.parametrize("trend", [0.0, 2.0])
@pytest.mark.parametrize("depth", [3, 8, 100])  # 3 is less than is asked for
def test_a_person_has_the_same_bits_in_evaluation_and_in_an_answer(
    tiny_run: Any, queries: list[np.ndarray], depth: int, trend: float
) -> None:
    users, histories = tiny_run.log.histories(tiny_run.catalog)
    model = copy.deepcopy(tiny_run.model)
    model.trend_weight.fill_(trend)
    hits = IndexRanker(model, tiny_run.index, tiny_run.catalog, depth=depth, log=histories).rank(histories, 5)
    shop = Retriever(model, tiny_run.index, tiny_run.catalog, tiny_run.log, depth=depth)
    for row, user in enumerate(users.to_list()):
        found = shop.recommend(user=user, k=5)
        assert queries[-1].tobytes() == queries[0][row].tobytes()
        assert answers(found) == list(
            zip(tiny_run.catalog.ids.take(hits.rows[row]), hits.scores[row].tolist(), strict=True)
        )
    assert len(queries) == 31


@pytest.fixture(scope="module")
def several(tiny_run: Any) -> TwoTower:
    """A model with three interests in the space of the one that was trained."""
    trained = tiny_run.model
    config = trained.config.model_copy(update={"user": trained.config.user.model_copy(update={"interests": 3})})
    torch.manual_seed(0)
    model = TwoTower(config=config, encoder=trained.encoder, ids=trained.ids, template=trained.template)
    weights = {name: value for name, value in trained.state_dict().items() if ".sequence.out." not in name}
    model.load_state_dict(weights, strict=False)
    return model.eval()


def test_several_interests_give_one_list_that_tells_them_apart(tiny_run: Any, several: TwoTower) -> None:
    index, catalog = tiny_run.index, tiny_run.catalog
    shop = Retriever(several, index, catalog, tiny_run.log)
    users, histories = tiny_run.log.histories(catalog)
    hits = IndexRanker(several, index, catalog, depth=100, log=histories).rank(histories, 5)
    told = set()
    for row, user in enumerate(users.to_list()[:10]):
        found = shop.recommend(user=user, k=5)
        assert answers(found) == list(zip(catalog.ids.take(hits.rows[row]), hits.scores[row].tolist(), strict=True))
        query = several.encode(histories.take([row]), several.memory(catalog, index.vectors))[0]
        assert query.shape == (3, 16)
        for one in found:
            cosines = query @ index.vectors[index.ids.rows([one.item])[0]]
            assert one.retrieval == pytest.approx(cosines.max(), abs=1e-6)
            assert one.interest == 1 + cosines.argmax()
            told.add(one.interest)
        assert len({one.item for one in found} - set(met(tiny_run, user))) == 5
    assert len(told) > 1
    assert {"interest", "rank"} <= set(shop.recommend(user=USER, k=2).to_json()["items"][0])
    found = shop.recommend(text="a quiet piano", history=["m03"], k=3)
    assert all(one.interest in (1, 2, 3) for one in found)
    assert {one.interest for one in shop.similar("m03")} == {None}


def test_one_interest_is_not_told(shop: Retriever) -> None:
    found = shop.recommend(user=USER, k=3)
    assert [one.interest for one in found] == [None] * 3
    assert set(found.to_json()["items"][0]) == {"rank", "item", "title", "score", "retrieval", "rating", "places"}


def test_a_person_has_the_same_history_text_alone_and_among_others(tiny_run: Any) -> None:
    _, histories = tiny_run.log.histories(tiny_run.catalog)
    text = tiny_run.model.memory(tiny_run.catalog, tiny_run.index.vectors).text
    together = text.tokens(histories)
    assert [text.tokens(histories.take([row]))[0] for row in range(30)] == together
    assert len({tuple(tokens) for tokens in together}) == 30


def test_a_person_has_the_same_bits_from_a_terminal(tiny_run: Any, shop: Retriever) -> None:
    command = [sys.executable, "-m", "twotower", "recommend", "--json", "-k", "5", "--user", str(USER)]
    paths = {"model": "model_folder", "index": "index_folder", "catalog": "items", "interactions": "events"}
    for option, path in paths.items():
        command += [f"--{option}", str(getattr(tiny_run, path))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert json.loads(done.stdout) == shop.recommend(user=USER, k=5).to_json()


def test_a_history_is_a_person_whose_log_has_neither_times_nor_ratings(tiny_run: Any, queries: list[Any]) -> None:
    rows = [{"user_id": "a", "item_id": item} for item in met(tiny_run, USER)]
    log = Interactions.read(_table(rows))
    bare = Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog, log)
    known, session = bare.recommend(user="a"), bare.recommend(history=met(tiny_run, USER))
    assert queries[0].tobytes() == queries[1].tobytes()
    assert answers(known) == answers(session)


def test_the_order_of_a_history_matters(shop: Retriever, tiny_run: Any) -> None:
    items = met(tiny_run, USER)
    assert answers(shop.recommend(history=items)) != answers(shop.recommend(history=items[::-1]))


def test_scores_are_what_they_say(tiny_run: Any, shop: Retriever, queries: list[np.ndarray]) -> None:
    found = shop.recommend(user=USER, k=30)
    vectors = tiny_run.index.vectors[tiny_run.index.ids.rows([one.item for one in found])]
    scores = vectors @ queries[0][0]
    trend = tiny_run.model.standing(tiny_run.log.histories(tiny_run.catalog)[1], 40)
    if trend is not None:
        scores += trend[tiny_run.catalog.rows([one.item for one in found])]
    np.testing.assert_allclose([one.retrieval for one in found], scores, atol=1e-6)
    scale, weight = float(tiny_run.model.scale.detach()), float(tiny_run.model.rating.weight)
    for one in found:
        assert one.rating is not None
        assert 1 <= one.rating <= 5
        assert one.score == pytest.approx(scale * one.retrieval + weight * (one.rating - 1) / 4, abs=1e-4)
    assert found.reranked == (weight > 0)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


@pytest.mark.parametrize("person", [{}, {"user": USER}, {"history": ["m03", "m08"]}])
@pytest.mark.parametrize("weight", [0.0, 0.5, 20.0])
def test_a_sentence_is_answered_by_its_vector_and_its_words(
    tiny_run: Any, queries: list[np.ndarray], person: dict[str, Any], weight: float
) -> None:
    """The best of all open items by the sum of both, although neither search alone sees all."""
    model = copy.deepcopy(tiny_run.model)
    model.user.text.words.fill_(weight)
    model.rating.weight.fill_(0)
    model.trend_weight.fill_(0.5)
    sentence, catalog = "violin 17", tiny_run.catalog
    shop = Retriever(model, tiny_run.index, catalog, tiny_run.log, depth=8)
    found = shop.recommend(text=sentence, k=4, **person)
    vectors = tiny_run.index.vectors[tiny_run.index.ids.rows(catalog.ids.to_list())]
    scores = vectors @ queries[-1][0] + weight * Words(catalog.texts(model.template)).shares(sentence)
    trend = model.standing(tiny_run.log.histories(catalog)[1], len(catalog))
    assert trend is not None
    scores += trend
    seen = met(tiny_run, USER) if "user" in person else person.get("history", [])
    scores[catalog.rows(seen)] = -np.inf
    best = np.argsort(-scores, kind="stable")[:4]
    assert [one.item for one in found] == catalog.ids.take(best)
    np.testing.assert_allclose([one.retrieval for one in found], scores[best], atol=1e-5)
    if weight == 20 and not person:
        assert found[0].item == "m17"  # one of the odd ones, about motors: only its number is in the sentence


def test_nobody_is_shown_what_they_met_and_k_ends_with_the_catalog(shop: Retriever, tiny_run: Any) -> None:
    found = shop.recommend(user=USER, k=1000)
    assert sorted(one.item for one in found) == sorted(set(tiny_run.catalog.ids.to_list()) - set(met(tiny_run, USER)))
    assert found[0].title == tiny_run.catalog.titles[tiny_run.catalog.rows([found[0].item])[0]]


def test_text_alone_and_text_beside_a_history(shop: Retriever, tiny_run: Any, queries: list[np.ndarray]) -> None:
    assert len(shop.recommend(text="quiet piano", k=100)) == 40
    history = met(tiny_run, USER)[:3]
    both, other = shop.recommend(history=history, text="quiet piano"), shop.recommend(history=history, text="fast race")
    assert len({query.tobytes() for query in queries}) == 3
    assert not {one.item for one in [*both, *other]} & set(history)
    assert both.query == 'a history of 3 items, "quiet piano"'


def test_somebody_who_did_nothing_yet_is_known_by_what_is_declared_of_them(tiny_run: Any) -> None:
    people = pa.table({"user_id": [USER, 901, 902, 903], "fond_of": ["rain", "quiet piano", "fast motor", None]})
    log = Interactions.read(tiny_run.events, rating_range=(1, 5), people=people)
    model = copy.deepcopy(tiny_run.model)
    model.trend_weight.fill_(0)
    shop = Retriever(model, tiny_run.index, tiny_run.catalog, log)
    for user, sentence in ((901, "fond of quiet piano"), (902, "fond of fast motor")):
        found = {one.item: one.retrieval for one in shop.recommend(user=user, k=40)}
        said = replace(Histories.of([[]], times=[[]]), about=pa.array([sentence], pa.large_string()))
        (query,) = model.encode(said, shop._memory, [None])
        vectors = tiny_run.index.vectors[tiny_run.index.ids.rows(list(found))]
        assert list(found.values()) == pytest.approx(vectors @ query, abs=1e-6)
        assert len(found) == 40
    assert {word.word for word in shop.explain("m02", user=901).words} == {"fond", "of", "quiet", "piano", ";"}
    for nobody in (903, 904):
        with pytest.raises(InputError, match=f"nothing is known of user {nobody}"):
            shop.recommend(user=nobody)


def test_unknown_items_of_a_history_are_set_aside_and_named(shop: Retriever) -> None:
    found = shop.recommend(history=["m03", "nothing", "m05"])
    assert found.unknown == ("nothing",)
    assert answers(found) == answers(shop.recommend(history=["m03", "m05"]))


def test_an_index_in_another_order_gives_the_same_answers(shop: Retriever, tiny_run: Any) -> None:
    order = np.random.default_rng(1).permutation(40)
    ids, vectors = tiny_run.catalog.ids.take(order), tiny_run.index.vectors[order].copy()
    index = ItemIndex.from_arrays(ids, vectors, space=tiny_run.index.space)
    other = Retriever(tiny_run.model, index, tiny_run.catalog, tiny_run.log)
    assert answers(other.recommend(user=USER, k=40)) == answers(shop.recommend(user=USER, k=40))
    assert answers(other.similar("m03")) == answers(shop.similar("m03"))


def test_an_index_that_lacks_items_sets_them_aside(tiny_run: Any) -> None:
    index = ItemIndex.from_arrays(
        tiny_run.catalog.ids.take(range(20, 40)), tiny_run.index.vectors[20:].copy(), space=tiny_run.index.space
    )
    shop = Retriever(tiny_run.model, index, tiny_run.catalog, tiny_run.log)
    found = shop.recommend(user=USER, k=40)
    items = met(tiny_run, USER)
    assert sorted(found.unknown) == sorted(item for item in items if item < "m20")
    assert sorted(one.item for one in found) == sorted(set(index.ids.to_list()) - set(items))
    with pytest.raises(InputError, match=r"the index has no item 'm03'; it has 20 items, such as 'm20'"):
        shop.similar("m03")


def test_what_left_the_catalog_is_never_shown_and_read_in_histories(
    tiny_run: Any, shop: Retriever, queries: list[np.ndarray], tmp_path: Path
) -> None:
    catalog = tiny_run.catalog.select(np.arange(30))
    smaller = Retriever(tiny_run.model, tiny_run.index, catalog, tiny_run.log)
    items = met(tiny_run, USER)
    assert any(item >= "m30" for item in items)
    found = smaller.recommend(user=USER, k=40)
    assert sorted(one.item for one in found) == sorted(set(catalog.ids.to_list()) - set(items))
    assert found.unknown == ()
    assert {one.item for one in smaller.similar("m03", k=40)} == set(catalog.ids.to_list()) - {"m03"}
    with pytest.raises(InputError, match="no item 'm31' in both the index and the catalog"):
        smaller.explain("m31", user=USER)
    # It is read as what was removed from the index is.
    folder = shutil.copytree(tiny_run.index_folder, tmp_path / "index")
    with IndexWriter(folder) as writer:
        writer.remove(tiny_run.catalog.ids.take(range(30, 40)))
        writer.publish()
    removed = Retriever(tiny_run.model, folder, catalog, tiny_run.log)
    for question in ({"user": USER}, {"history": ["m31", "m02", "m36"]}, {"history": ["m31"]}):
        assert answers(smaller.recommend(**question)) == answers(removed.recommend(**question))
        assert queries[-1].tobytes() == queries[-2].tobytes()
    one = smaller.recommend(history=["m31", "nothing"], k=40)
    assert one.unknown == ("nothing",)
    assert {item.item for item in one} == set(catalog.ids.to_list())
    _, counts = smaller.questions(30)
    assert not counts[30:].any()
    np.testing.assert_array_equal(counts[:30], shop.questions(30)[1][:30])


def test_an_index_without_items_is_refused_and_the_one_before_goes_on_serving(tiny_run: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_run.index_folder, tmp_path / "index")
    shop = Retriever(tiny_run.model, folder, tiny_run.catalog)
    before = answers(shop.recommend(history=["m03"]))
    with IndexWriter(folder) as writer:
        writer.remove(tiny_run.catalog.ids.to_list())
        writer.publish()
    sentence = "the index has no items, so nothing can be recommended: add some, or build it again"
    with pytest.raises(ArtefactError, match=sentence):
        Retriever(tiny_run.model, folder, tiny_run.catalog)
    with pytest.raises(ArtefactError, match=sentence):
        shop.refresh()
    assert answers(shop.recommend(history=["m03"])) == before


def test_similar_items_are_the_nearest_by_cosine(shop: Retriever, tiny_run: Any) -> None:
    vectors = tiny_run.index.vectors
    cosines = vectors @ vectors[3]
    best = [row for row in np.argsort(-cosines, kind="stable") if row != 3][:5]
    found = shop.similar("m03", k=5)
    assert [one.item for one in found] == tiny_run.catalog.ids.take(best)
    np.testing.assert_allclose([one.score for one in found], cosines[best], atol=1e-6)
    assert [one.rating for one in found] == [None] * 5


def test_only_positive_events_speak_for_a_person_but_all_are_seen(tiny_run: Any, queries: list[np.ndarray]) -> None:
    model = changed(tiny_run.model, data=Positive(min_rating=0.5))
    found = Retriever(model, tiny_run.index, tiny_run.catalog, tiny_run.log).recommend(user=USER, k=40)
    _, liked = tiny_run.log.histories(tiny_run.catalog, positive=Positive(min_rating=0.5))
    users, _ = tiny_run.log.histories(tiny_run.catalog)
    one = liked.take(users.rows([USER]))
    memory = model.memory(tiny_run.catalog, tiny_run.index.vectors)
    assert len(one.items) == 8
    assert tiny_run.model.encode(one, memory).tobytes() == queries[0].tobytes()
    assert not {one.item for one in found} & set(met(tiny_run, USER))


def test_a_model_that_learned_no_ratings_predicts_none(tiny_run: Any) -> None:
    model = copy.deepcopy(tiny_run.model)
    model.rating.mean.data.zero_()
    model.rating.weight.zero_()
    found = Retriever(model, tiny_run.index, tiny_run.catalog, tiny_run.log).recommend(user=USER)
    assert {one.rating for one in found} == {None}
    assert not found.reranked


def test_folders_do_as_well_as_what_is_in_them(tiny_run: Any, shop: Retriever) -> None:
    other = Retriever(str(tiny_run.model_folder), tiny_run.index_folder, tiny_run.catalog, tiny_run.log)
    assert answers(other.recommend(user=USER)) == answers(shop.recommend(user=USER))


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ({}, "nothing was asked for: give a user, a history, a text, a picture or a sound"),
        ({"user": 7, "history": ["m01"]}, "a user and a history were given, expected one of them"),
        ({"user": 999}, r"nothing is known of user 999; the log has 30 people, such as 1, 2, 3: for someone new give"),
        ({"user": "anna"}, "nothing is known of user 'anna'"),
        ({"user": 7.5}, "ids must be all strings or all integers, got float"),
        ({"history": []}, "a history needs at least one item of the catalog and the index, got none; or give a text"),
        ({"history": ["x", "y"]}, "at least one item .* got 2 unknown ones, the first is 'x'"),
        ({"history": "m01"}, "expected a list of ids, got the one value 'm01'"),
        ({"history": 5}, "expected a list of ids, got the one value 5"),
        ({"history": ["m01", 5]}, "ids must be all strings or all integers, got int, str"),
        ({"history": [["m01"]]}, "ids must be all strings or all integers, got list"),
        ({"text": " "}, "text must be words, got ' '"),
        ({"text": 5}, "text must be words, got 5"),
        *(({"user": 7, "k": k}, f"k must be a whole number from 1 on, got {k!r}") for k in (0, -1, 2.5, "3", True)),
    ],
)
def test_a_bad_question_is_told_so(shop: Retriever, question: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        shop.recommend(**question)


def test_no_log_no_users(tiny_run: Any) -> None:
    shop = Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog)
    with pytest.raises(InputError, match="no log was given, so no user is known"):
        shop.recommend(user=USER)
    assert shop.recommend(history=["m01"], k=1)[0].rating == pytest.approx(4, abs=1)  # the scale is the model's


def test_a_model_without_a_text_reader_reads_no_text(tiny_run: Any) -> None:
    model = copy.deepcopy(tiny_run.model)
    model.user.text = None
    shop = Retriever(model, tiny_run.index, tiny_run.catalog, tiny_run.log)
    assert len(shop.recommend(user=USER)) == 10
    with pytest.raises(InputError, match="this model has no text reader"):
        shop.recommend(text="quiet piano")


def _foreign(run: Any) -> ItemIndex:
    return ItemIndex.from_arrays(["x", "y"], run.index.vectors[:2].copy(), space=run.index.space)


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (
            lambda r: Retriever(r.model, ItemIndex.from_arrays(r.catalog.ids, r.index.vectors, space="s"), r.catalog),
            ArtefactError,
            "the index belongs to another model: it is of the space 's'",
        ),
        (
            lambda r: Retriever(r.model, _foreign(r), r.catalog),
            ArtefactError,
            "the index has none of the catalog's items: it has 'x', the catalog 'm00'",
        ),
        (lambda r: Retriever(r.model, r.index, "items.csv"), InputError, r"expected a Catalog, got str; Catalog\.read"),
        (lambda r: Retriever(r.model, r.index, r.catalog, [1]), InputError, "expected a Interactions, got list"),
        (lambda r: Retriever(r.recipe.parent, r.index, r.catalog), ArtefactError, "is not a twotower/model"),
        (
            lambda r: Retriever(r.model, r.index, r.catalog, Interactions.read(r.events, rating_range=(0, 5))),
            InputError,
            r"ratings of 0 to 5 were mapped to 0 to 1, the model learned from 1 to 5: .* rating_range=\(1\.0, 5\.0\)",
        ),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(
    tiny_run: Any, make: Callable[[Any], Retriever], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        make(tiny_run)


def test_a_log_of_other_items_is_refused(tiny_run: Any) -> None:
    shop = Retriever(
        tiny_run.model,
        tiny_run.index,
        tiny_run.catalog,
        Interactions.read(_table([{"user_id": "a", "item_id": "zebra"}])),
    )
    with pytest.raises(InputError, match="no event of the polars frame has an item of the catalog"):
        shop.recommend(user="a")


def test_an_index_is_built_from_a_folder_as_from_a_model(tiny_run: Any) -> None:
    index = build_index(tiny_run.model_folder, tiny_run.catalog, kind="HNSW8", progress=False)
    assert index.kind == "HNSW8"
    assert index.space == tiny_run.model.space
    assert np.array_equal(index.vectors, tiny_run.index.vectors)


def test_items_of_which_nothing_is_known_are_set_aside_by_name(tiny_run: Any) -> None:
    catalog = Catalog.read(_table([{"item_id": "x", "title": "fast race", "topic": "motors"}, {"item_id": "y"}]))
    with pytest.warns(UserWarning, match=r"1 of 2 items have neither content .* are set aside: 'y'"):
        index = build_index(tiny_run.model, catalog, progress=False)
    assert index.ids.to_list() == ["x"]
    found = Retriever(tiny_run.model, index, catalog).recommend(text="fast race")
    assert [one.item for one in found] == ["x"]
    nothing = Catalog.read(_table([{"item_id": "y", "title": None, "topic": None, "price": 3.5}]))
    with pytest.raises(InputError, match="1 of 1 items have neither content"):
        build_index(tiny_run.model, nothing, progress=False)


def _table(rows: list[dict[str, Any]]) -> Any:
    import polars as pl

    return pl.DataFrame(rows)


def test_questions_answered_together_have_the_answers_of_each_alone(tiny_run: Any) -> None:
    shop = Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog, tiny_run.log)
    asked: list[dict[str, Any]] = [{"user": user, "k": 3 + user % 4} for user in range(1, 31)]
    asked[3:3] = [{"history": ["m01", "m03"]}, {"text": "a quiet piano"}, {"user": 7, "where": {"topic": "music"}}]
    asked[8:8] = [{"text": "a fast race"}, {"user": 9, "text": "a quiet piano"}, {"history": ["m01"], "text": "a race"}]
    asked[9:9] = [
        {"user": "nobody"},
        {"user": 7, "k": 0},
        {"history": ["none"]},
        {"user": 7, "where": {"colour": "red"}},
    ]
    together = shop.recommend_many(asked)
    assert len(together) == len(asked)
    for question, answer in zip(asked, together, strict=True):
        if isinstance(answer, TwoTowerError):
            with pytest.raises(type(answer)) as told:
                shop.recommend(**question)
            assert str(told.value) == str(answer)
            continue
        alone = shop.recommend(**question)
        assert [one.item for one in answer] == [one.item for one in alone]
        assert [one.score for one in answer] == pytest.approx([one.score for one in alone], abs=1e-5)
        assert (answer.query, answer.unknown, answer.steps) == (alone.query, alone.unknown, alone.steps)
    assert sum(isinstance(answer, TwoTowerError) for answer in together) == 4


def test_a_question_with_an_argument_that_there_is_not_costs_the_others_nothing(shop: Retriever) -> None:
    first, second, third = shop.recommend_many([{"user": USER}, {"user": USER, "hystory": ["m01"]}, {"user": 3}])
    assert [one.item for one in first] == [one.item for one in shop.recommend(user=USER)]
    assert isinstance(second, InputError)
    assert str(second) == (
        "question 1 has no argument 'hystory' (did you mean 'history'?); it has: "
        "user, history, text, image, audio, person, where, steps, k"
    )
    assert [one.item for one in third] == [one.item for one in shop.recommend(user=3)]


def test_the_arguments_that_are_known_are_those_of_a_question() -> None:
    assert tuple(inspect.signature(Retriever.recommend).parameters)[1:] == ASKED


@pytest.mark.parametrize("by", [1, ["text"], b"text"])
def test_a_kind_of_content_is_named_by_a_string(shop: Retriever, by: Any) -> None:
    with pytest.raises(InputError, match="by must be a kind of content, such as 'text', got "):
        shop.similar("m03", by=by)
