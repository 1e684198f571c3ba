"""Reasons: they add up, say what asking again says, and name what counts."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from indexing.writer import IndexWriter
from serving.explanation import Counterfactual, Explanation, Part, PastItem, Word
from serving.reading import Question, leave_out
from serving.retriever import Retriever
from serving.words_read import STEPS, token_values, words_of
from towers.errors import InputError
from towers.fusion import AttentionFusion, MaskedFusion, MeanFusion, unit
from towers.history import Histories
from towers.model import TwoTower
from towers.sequence_reader import SequenceConfig
from towers.set_reader import SetReader
from twotower.cli import app

USER = 7
SIZE = 16


@pytest.fixture(scope="module")
def shop(tiny_run: Any) -> Retriever:
    model = copy.deepcopy(tiny_run.model)
    model.trend_weight.fill_(0.5)
    model.rating.weight.fill_(0.7)
    return Retriever(model, tiny_run.index, tiny_run.catalog, tiny_run.log)


@pytest.fixture(scope="module")
def several(tiny_run: Any) -> Retriever:
    """Three interests in the space of the model that was trained."""
    trained = tiny_run.model
    config = trained.config.model_copy(update={"user": trained.config.user.model_copy(update={"interests": 3})})
    torch.manual_seed(0)
    model = TwoTower(config=config, encoder=trained.encoder, ids=trained.ids, template=trained.template)
    weights = {name: value for name, value in trained.state_dict().items() if ".sequence.out." not in name}
    model.load_state_dict(weights, strict=False)
    return Retriever(model.eval(), tiny_run.index, tiny_run.catalog, tiny_run.log)


def without_reader(run: Any, name: str) -> Retriever:
    model = copy.deepcopy(run.model)
    setattr(model.user, name, None)
    return Retriever(model, run.index, run.catalog, run.log)


def met(shop: Retriever, user: int) -> list[str]:
    person = shop.people.person(user)
    return [shop._catalog.ids[row] for row in person.history.items]


def check_sums(found: Explanation) -> None:
    """All that must add up does, to the 1e-4 that was promised."""
    values = {one.name: one.value for one in found.parts}
    assert sum(values.values()) == pytest.approx(found.score, abs=1e-4)
    read = {name: values.pop(name) for name in ("sequence", "text") if name in values}
    assert sum(one.value for one in found.contents) == pytest.approx(sum(read.values()), abs=1e-4)
    leaves = {name: [value] for name, value in read.items()}
    if found.past:
        leaves["sequence" if "sequence" in read else "text"] = [one.value for one in found.past]
    if found.words and ("sequence" in read or not found.past):
        leaves["text"] = [one.value for one in found.words]
    total = sum(map(sum, leaves.values())) + sum(values.values()) + found.remainder
    assert total == pytest.approx(found.score, abs=1e-4)


QUESTIONS: list[dict[str, Any]] = [
    {"user": USER},
    {"history": ["m03", "m08", "m12"]},
    {"history": ["m03"]},
    {"text": "quiet piano"},
    {"text": "fast race", "user": USER},
    {"text": "fast race", "history": ["m02", "nothing"]},
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_score_is_that_of_the_recommendation_and_its_parts_add_up(
    shop: Retriever, question: dict[str, Any]
) -> None:
    for place, one in enumerate(shop.recommend(k=3, **question), start=1):
        found = shop.explain(one.item, **question)
        assert found.score == pytest.approx(one.score, abs=1e-4)
        assert (found.item, found.title, found.place) == (one.item, one.title, place)
        assert found.query == shop.recommend(k=1, **question).query
        check_sums(found)
        expected = {"popularity", "rating"} | ({"words"} if "text" in question else set())
        assert {part.name for part in found.parts} - {"sequence", "text"} == expected
        assert {part.name for part in found.contents} <= {"text", "id", "other"}
        assert 0 <= found.confidence <= 1
        assert found.unknown == (("nothing",) if "nothing" in question.get("history", []) else ())


@pytest.mark.parametrize("reader", ["sequence", "text"])
def test_with_one_reader_alone(tiny_run: Any, reader: str) -> None:
    shop = without_reader(tiny_run, "text" if reader == "sequence" else "sequence")
    top = shop.recommend(user=USER, k=1)[0]
    found = shop.explain(top.item, user=USER)
    check_sums(found)
    assert found.score == pytest.approx(top.score, abs=1e-4)
    assert [part.name for part in found.parts if part.name in ("sequence", "text")] == [reader]
    assert bool(found.words) == (reader == "text")
    assert {one.item for one in found.past} <= set(met(shop, USER))
    assert sum(one.value for one in found.past) == pytest.approx(found.parts[0].value, abs=1e-4)


def test_a_reader_of_text_alone_reads_the_past_anew_without_each(tiny_run: Any) -> None:
    shop = without_reader(tiny_run, "sequence")
    found = shop.explain("m10", history=["m03", "m08"], words=False, counterfactuals=0)
    scale = float(shop._model.scale.detach())
    vector = shop._memory.vectors[10].numpy()
    for one, other in zip(("m03", "m08"), (8, 3), strict=True):
        query = shop._model.encode(Histories.of([[other]]), shop._memory)[0]
        (drop,) = [past.drop for past in found.past if past.item == one]
        assert drop == pytest.approx(found.parts[0].value - scale * float(query @ vector), abs=1e-4)


def test_several_interests_explain_the_nearest(several: Retriever) -> None:
    told = set()
    for user in range(1, 9):
        top = several.recommend(user=user, k=1)[0]
        found = several.explain(top.item, user=user, words=False, counterfactuals=1)
        check_sums(found)
        assert found.interest == top.interest
        assert found.score == pytest.approx(top.score, abs=1e-4)
        told.add(found.interest)
    assert len(told) > 1
    check_sums(several.explain("m03", text="quiet piano", history=["m02"]))


def test_a_set_is_read_without_each_of_its_items(tiny_run: Any) -> None:
    """The query without one of two items is the other."""
    shop = without_reader(tiny_run, "text")
    shop._model.user.sequence = SetReader(config=SequenceConfig(ordered=False), dimension=shop._model.user.shape[0])
    found = shop.explain("m10", history=["m03", "m08"], counterfactuals=0)
    check_sums(found)
    scale, vectors = float(shop._model.scale.detach()), shop._memory.vectors
    for one, other in zip(("m03", "m08"), (8, 3), strict=True):
        (drop,) = [past.drop for past in found.past if past.item == one]
        assert drop == pytest.approx(found.parts[0].value - scale * float(vectors[other] @ vectors[10]), abs=1e-4)


def test_what_is_left_out_is_left_out_of_all_and_read_again(shop: Retriever) -> None:
    items = met(shop, USER)
    top = shop.recommend(user=USER, k=1)[0].item
    found = shop.explain(top, user=USER, words=False, counterfactuals=100)
    assert sorted(one.item for one in found.past) == sorted(set(items))
    values = [one.drop for one in found.past]
    assert values == sorted(values, reverse=True)
    person = shop.people.person(USER)
    model, sequence = shop._model, shop._model.user.sequence
    assert sequence is not None
    vector = shop._memory.vectors[shop._catalog.rows([top])[0]]
    part = next(one for one in found.parts if one.name == "sequence")
    whole, _ = model.user.readings(person.history, shop._memory)
    assert whole is not None
    unit_value = part.value / float(whole[0] @ vector)  # scale, gate and norm of this person's query
    for one in found.past:
        row = shop._catalog.rows([one.item])[0]
        left, _ = model.user.readings(person.history.keep(person.history.items != row), shop._memory)
        assert left is not None
        assert one.drop == pytest.approx(part.value - unit_value * float(left[0] @ vector), abs=1e-4)
    equal = [one.value - one.drop for one in found.past]
    np.testing.assert_allclose(equal, equal[0], atol=1e-9)


def test_a_place_without_an_item_is_what_asking_without_it_gives(shop: Retriever) -> None:
    """A session from which the item is taken: it may come back itself, and the explained one moves."""
    items = ["m03", "m08", "m12", "m05"]
    moved = set()
    for one in shop.recommend(history=items, k=4):
        found = shop.explain(one.item, history=items, counterfactuals=4, words=False)
        assert len(found.counterfactuals) == 4
        for other in found.counterfactuals:
            fresh = shop.recommend(history=[item for item in items if item != other.item], k=40)
            place = [found.item for found in fresh].index(one.item)
            assert other.place == place + 1
            assert other.score == pytest.approx(fresh[place].score, abs=1e-4)
            moved.add(other.place == found.place)
    assert moved == {True, False}


def test_without_their_only_item_nothing_is_known_of_somebody(shop: Retriever) -> None:
    found = shop.explain("m09", history=["m03"])
    assert found.counterfactuals == ()
    (past,) = found.past
    assert past.value == pytest.approx(past.drop)
    assert past.value == pytest.approx(next(one.value for one in found.parts if one.name == "sequence"), abs=1e-4)
    assert len(shop.explain("m09", history=["m03"], text="quiet piano").counterfactuals) == 1  # there is still the text


def test_the_same_item_twice_is_one_past_item(shop: Retriever) -> None:
    found = shop.explain("m10", history=["m03", "m08", "m03"], words=False)
    assert sorted(one.item for one in found.past) == ["m03", "m08"]
    alone = shop.explain("m10", history=["m08"], words=False)
    (other,) = [one for one in found.counterfactuals if one.item == "m03"]
    assert other.score == pytest.approx(alone.score, abs=1e-4)


def test_asked_again_nothing_changes(shop: Retriever) -> None:
    first, again = (shop.explain("m10", user=USER).as_dict() for _ in range(2))
    assert first == again
    other = shop.explain("m10", user=USER + 1).as_dict()
    assert [one["item"] for one in other["past"]] != [one["item"] for one in first["past"]]


def test_what_is_remembered_of_a_reading_does_not_change_an_answer(tiny_run: Any) -> None:
    shop = Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog, tiny_run.log)
    question = {"user": USER, "text": "quiet rain"}
    first = shop.recommend(**question).to_json()
    assert shop._memory.read is not None
    assert len(shop._memory.read) == 1
    assert shop.recommend(**question).to_json() == first
    assert len(shop._memory.read) == 1


def test_an_item_that_was_met_is_explained_but_has_no_place(shop: Retriever) -> None:
    item = met(shop, USER)[0]
    found = shop.explain(item, user=USER, words=False, counterfactuals=20)
    assert found.place is None
    assert found.met
    assert found.sentence() == f"{found.title}: it was met already, and is therefore not recommended."
    check_sums(found)
    console = Console(width=200)
    with console.capture() as shown:
        console.print(found.table())
    assert "place none, as it was met, score" in shown.get()
    assert "beyond" not in shown.get()
    (itself,) = (one for one in found.counterfactuals if one.item == item)
    assert itself.place is not None
    assert shown.get().count("none, as it was met") == len(found.counterfactuals)
    assert not shop.explain(shop.recommend(user=USER, k=1).items[0].item, user=USER, words=False).met


def test_a_removed_item_still_speaks(tiny_run: Any, tmp_path: Any) -> None:
    import shutil

    shutil.copytree(tiny_run.index_folder, tmp_path / "index")
    with IndexWriter(tmp_path / "index") as writer:
        writer.remove(["m03"])
        writer.publish()
    catalog = tiny_run.catalog.select(np.array([row for row in range(40) if row != 3]))
    shop = Retriever(tiny_run.model, tmp_path / "index", catalog)
    top = shop.recommend(history=["m03", "m08"], k=1)[0].item
    found = shop.explain(top, history=["m03", "m08"])
    assert {(one.item, one.title) for one in found.past} >= {("m03", "m03")}
    check_sums(found)
    with pytest.raises(InputError, match="there is no item 'm03' in both the index and the catalog"):
        shop.explain("m03", history=["m08"])


@pytest.mark.parametrize(
    ("item", "question", "sentence"),
    [
        ("zebra", {"user": USER}, "there is no item 'zebra' in both .* has 40 items, such as 'm00'"),
        ("m01", {"user": 999}, "nothing is known of user 999"),
        ("m01", {}, "nothing was asked for"),
        ("m01", {"history": ["x"]}, "at least one item .* got 1 unknown ones"),
        ("m01", {"text": " "}, "text must be words, got ' '"),
        ("m01", {"user": 7, "counterfactuals": -1}, "counterfactuals must be a whole number from 0 on, got -1"),
        ("m01", {"user": 7, "counterfactuals": 2.5}, "counterfactuals must be a whole number from 0 on, got 2.5"),
    ],
)
def test_a_bad_question_is_told_so(shop: Retriever, item: str, question: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        shop.explain(item, **question)


def test_words_tell_of_their_items(shop: Retriever) -> None:
    found = shop.explain("m10", history=["m03", "m08"])
    assert {word.item for word in found.words} == {"m03", "m08"}
    titles = {one.item: one.title.lower().split() for one in found.past}
    for item, title in titles.items():
        assert set(title) <= {word.word for word in found.words if word.item == item}
    asked = shop.explain("m10", text="quiet piano", history=["m03"])
    assert [(word.item, word.word) for word in sorted(asked.words, key=lambda one: one.word)] == [
        (None, "piano"),
        (None, "quiet"),
    ]
    assert shop.explain("m10", user=USER, words=False).words == ()


def test_gradients_of_a_straight_line_are_exact(shop: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that adds its word vectors up gives each word its own product, less that of the mask."""
    reader = copy.deepcopy(shop._model.user.text)
    assert reader is not None
    table = reader.encoder.embeddings
    monkeypatch.setattr(reader, "read_hidden", lambda hidden, mask, start: hidden.sum(1)[:, :SIZE])
    direction = torch.arange(SIZE, dtype=torch.float32)
    tokens = reader.encoder.tokenize(["quiet piano"])[0]
    values, left = token_values(reader, tokens, direction)
    ids, _ = reader.encoder.pad([tokens])
    masked = torch.full_like(ids, reader.encoder.tokenizer.mask_token_id)
    masked[:, [0, -1]] = ids[:, [0, -1]]
    with torch.no_grad():
        change = table(input_ids=ids) - table(input_ids=masked)
        alone = table(input_ids=masked).sum(1)[0, :SIZE] @ direction
    np.testing.assert_allclose(values, (change[0, 1:-1, :SIZE] @ direction).numpy(), atol=1e-4)
    assert left == pytest.approx(float(alone), abs=1e-3)


def test_gradients_add_up_to_what_changes(shop: Retriever) -> None:
    reader, vector = shop._model.user.text, shop._memory.vectors[10]
    assert reader is not None
    tokens = reader.encoder.tokenize(["quiet piano on a rainy evening, and no motors"])[0]
    values, left = token_values(reader, tokens, vector)
    ids, mask = reader.encoder.pad([tokens])
    masked = ids.clone()
    masked[:, 1:-1] = reader.encoder.tokenizer.mask_token_id
    with torch.inference_mode():
        whole, alone = (float((reader(one, mask) @ vector)[0]) for one in (ids, masked))
    assert STEPS == 8
    assert left == pytest.approx(alone, abs=1e-5)
    assert values.sum() == pytest.approx(whole - alone, abs=2e-3)


def test_what_masked_words_say_is_shared_by_the_words(shop: Retriever) -> None:
    """So words add up to the text reader's part, but for the error of integrated gradients."""
    found = shop.explain("m10", text="quiet piano on a rainy evening, and no motors", counterfactuals=0)
    part = next(one.value for one in found.parts if one.name == "text")
    told = sum(one.value for one in found.words)
    assert told == pytest.approx(part, rel=0.05)
    assert found.remainder == pytest.approx(part - told, abs=1e-4)


def test_words_are_put_together_from_their_pieces() -> None:
    class Tokenizer:
        def __init__(self, pieces: list[str]) -> None:
            self.pieces = pieces

        def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
            return [self.pieces[one] for one in ids]

        def decode(self, ids: list[int]) -> str:
            return "".join(self.pieces[one].removeprefix("##").replace("Ġ", " ") for one in ids)

    bert = words_of(Tokenizer(["ki", "##lo", "gram", "##s"]), [0, 1, 2, 3], [0, 0, 1, 1])
    assert bert == [("kilo", [0, 1]), ("grams", [2, 3])]
    assert words_of(Tokenizer(["a", "##b"]), [0, 1], [0, 1]) == [("a", [0]), ("b", [1])]  # of two events
    roberta = words_of(Tokenizer(["A", "Ġbig", "ger", "Ġone"]), [0, 1, 2, 3], [0] * 4)
    assert roberta == [("A", [0]), ("bigger", [1, 2]), ("one", [3])]


@pytest.mark.parametrize("kind", ["gated", "mean", "attention"])
def test_what_is_weighted_adds_up_to_what_is_fused(kind: str) -> None:
    torch.manual_seed(0)
    fusion = {
        "gated": MaskedFusion({"a": 1.0, "b": 0.5}),
        "mean": MeanFusion(),
        "attention": AttentionFusion(["a", "b"], SIZE),
    }[kind]
    parts = {"a": (torch.randn(3, SIZE), torch.tensor([True, True, False])), "b": (torch.randn(3, SIZE), None)}
    weighted = fusion.weighted(parts)
    torch.testing.assert_close(unit(weighted["a"] + weighted["b"]), fusion(parts))
    assert not weighted["a"][2].any()
    if kind == "gated":
        torch.testing.assert_close(weighted["b"], 0.5 * parts["b"][0])


def test_a_picture_is_a_past_item_without_a_name(shop: Retriever) -> None:
    """Its vector stands last in the memory, as `recommend` puts it there."""
    person = shop._asker.question(history=["m03"]).person
    shown = shop._memory.with_one_more(torch.from_numpy(shop._index.vectors[[5]].copy()))
    question = Question(person, person.history.followed_by(40), shown, None)
    assert leave_out(shop._model, question).rows.tolist() == [3, 40]
    assert question.digest != replace(question, memory=shop._memory.with_one_more(torch.zeros(1, SIZE))).digest
    from serving.explain import Explained

    item = Explained(10, shop._memory.vectors[10], {})
    found = shop._explainer.explain(item, question, words=True, counterfactuals=3)
    assert {(one.item, one.title) for one in found.past} == {("m03", shop._catalog.titles[3]), (None, "what was shown")}
    assert len(found.counterfactuals) == 2
    check_sums(found)


def explanation(**changes: Any) -> Explanation:
    """A reason made by hand."""
    past = (PastItem("a", "Alien", 0.4, 0.5, 0.5), PastItem("b", "Brazil", 0.1, 0.2, 0.2))
    return replace(
        Explanation(
            query="user 1, 2 items",
            item="c",
            title="Contact",
            score=1.0,
            place=2,
            depth=100,
            parts=(Part("sequence", 0.7, 0.7), Part("text", 0.05, 0.05), Part("rating", 0.25, 0.25)),
            contents=(Part("text", 0.45, 0.6), Part("id", 0.3, 0.4)),
            past=past,
            words=(Word("alien", "a", 0.03, 0.03), Word(";", None, 0.02, 0.02)),
            counterfactuals=(Counterfactual("a", "Alien", 14, 0.6), Counterfactual("b", "Brazil", 3, 0.9)),
            remainder=0.0,
            confidence=0.8,
        ),
        **changes,
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {},
            "Contact: mostly because of Alien and Brazil; near by what is written about it (60%) and who met it (40%); "
            "likely to be rated well; without Alien it would be 14th instead of 2nd.",
        ),
        ({"confidence": 0.3}, "Contact: among others because of Alien and Brazil;"),
        ({"confidence": 0.1}, "Contact: it fits the past as a whole, Alien and Brazil above all;"),
        ({"past": (PastItem("a", "Alien", -0.1, 0.5, 0.5),)}, "Contact: it fits the past as a whole;"),
        ({"past": (), "words": ()}, "Contact: because of what was asked for;"),
        (
            {"parts": (Part("sequence", -0.4, -0.4), Part("rating", 0.6, 0.6))},
            "Contact: the past as a whole speaks against it, for it Alien and Brazil above all;",
        ),
        (
            {
                "parts": (Part("sequence", 0.2, 0.2), Part("text", 0.8, 0.8)),
                "words": tuple(Word(word, "a", 0.1, 0.1) for word in ("1996", "1996", "alien", "1996")),
            },
            'Contact: because of "1996" and "alien"; of the past',
        ),
        (
            {"parts": (Part("text", 1.0, 1.0),), "past": ()},
            'Contact: because of "alien"; near by',
        ),
        (
            {"parts": (Part("sequence", 0.7, 0.7), Part("text", 0.3, 0.3))},
            'Contact: mostly because of Alien and Brazil, and of "alien"; near by',
        ),
        (
            {"parts": (Part("sequence", 0.2, 0.2), Part("text", 0.8, 0.8))},
            'Contact: because of "alien"; of the past, Alien and Brazil speak most for it; near by',
        ),
        (
            {"counterfactuals": (Counterfactual("a", "Alien", None, 0.1), Counterfactual("b", "Brazil", 99, 0.1))},
            "without Alien it would be beyond the first 100 instead of 2nd.",
        ),
        ({"counterfactuals": (Counterfactual("a", "Alien", 2, 0.6),)}, "likely to be rated well."),
    ],
)
def test_sentences(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in explanation(**changes).sentence()


def test_from_a_terminal(tiny_run: Any, shop: Retriever) -> None:
    paths = {"model": "model_folder", "index": "index_folder", "catalog": "items", "interactions": "events"}
    command = ["explain", "m10", "--user", str(USER)]
    command += [part for option, path in paths.items() for part in (f"--{option}", str(getattr(tiny_run, path)))]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    expected = Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog, tiny_run.log).explain("m10", user=USER)
    assert told == json.loads(json.dumps(expected.as_dict()))
    assert told["sentence"] == expected.sentence()
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0
    for part in ("of the past", "otherwise", "words", "predicted rating"):
        assert (part in shown.stdout) == (part != "predicted rating" or bool(tiny_run.model.rating.weight))
