"""Both towers as one artefact: the same person has the same bits, whoever else is asked for and after loading."""

from __future__ import annotations

import json
import resource
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from towers import user
from towers.artefact import MANIFEST, sha256_file
from towers.catalog import Catalog
from towers.embed import VectorCache
from towers.errors import ArtefactError, InputError
from towers.history import Histories
from towers.history_text import HistoryTextConfig
from towers.ids import IdList
from towers.item import ItemConfig
from towers.model import TwoTower
from towers.model_config import ModelConfig
from towers.text import TextConfig, TextEncoder
from towers.text_reader import TextReader, TextReaderConfig
from towers.user import Memory

ROWS = {
    "item_id": [10, 11, 12, 13, 14],
    "title": ["quiet piano", "fast engine", "night race", None, "evening rain"],
}
HISTORIES = Histories.of(
    [[0, 2, 1], [4], [3, 0, 1, 2, 4, 0], [2, 2]],
    times=[[0, 9e4, 1e7], [5], [0, 1, 2, 3, 4, 5], [0, 1]],
    ratings=[[1, 0.5, float("nan")], [0.2], [0, 0, 0, 1, 1, 1], [1, 1]],
)
SMALL = {"item": {"dimension": 8, "hidden": 8, "template": "{title}"}, "rating": {"dimension": 4}}


@pytest.fixture
def catalog() -> Catalog:
    return Catalog.read(pl.DataFrame(ROWS))


@pytest.fixture
def cache(tmp_path: Path) -> VectorCache:
    return VectorCache(tmp_path / "vectors")


def make(folder: Path, ids: Any = (13, 11), template: str = "{title}", **config: object) -> TwoTower:
    torch.manual_seed(0)
    encoder = TextEncoder.load(TextConfig(source=str(folder)))
    settings = ModelConfig.model_validate({**SMALL, **config})
    model = TwoTower(config=settings, encoder=encoder, ids=IdList(ids), template=template)
    with torch.no_grad():  # as after training: nothing is zero
        for name, weight in model.named_parameters():
            if weight.requires_grad and ".encoder." not in name:
                weight.normal_(std=0.3)
        model.item.text.centre.normal_()
        model.rating.weight.fill_(0.7)
    return model.eval()


def answers(model: TwoTower, catalog: Catalog, cache: VectorCache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Item vectors, queries and ratings."""
    vectors = model.embed_items(catalog, cache=cache)
    memory = model.memory(catalog, vectors)
    asked = np.array([[1, 4, -1], [0, 1, 2], [2, -1, -1], [4, 3, 2]])
    return vectors, model.encode(HISTORIES, memory), model.rate(HISTORIES, memory, asked)


OFF = {
    "both": {},
    "sequence only": {"user": {"text": False}},
    "text only": {"user": {"sequence": False}},
    "all layers tuned": {"user": {"text": {"tune": "all"}}},
    "frozen": {"user": {"text": {"tune": 0}}},
    "clicks": {"rating": {"objective": "click"}},
    "three interests": {"user": {"interests": 3}},
}


@pytest.mark.parametrize("kind", OFF)
def test_saved_and_loaded_it_answers_bit_for_bit(
    tiny_bert: Path, catalog: Catalog, cache: VectorCache, tmp_path: Path, kind: str
) -> None:
    model = make(tiny_bert, **OFF[kind])
    before = answers(model, catalog, cache)
    model.save(tmp_path / "model", about={"recipe": {"seed": 3}})
    loaded = TwoTower.load(tmp_path / "model")
    for ours, theirs in zip(before, answers(loaded, catalog, cache), strict=True):
        assert ours.dtype == np.float32
        assert np.array_equal(ours, theirs)
    assert (loaded.space, loaded.fingerprint) == (model.space, model.fingerprint)
    assert json.loads((tmp_path / "model" / MANIFEST).read_text())["recipe"] == {"seed": 3}
    np.testing.assert_allclose(np.linalg.norm(before[0], axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(before[1], axis=-1), 1, atol=1e-6)
    assert before[2][0, 2] == before[2][2, 1] == 0  # nothing was asked there
    assert ((before[2] >= 0) & (before[2] <= 1)).all()


def test_a_model_without_own_vectors_can_be_saved(tiny_bert: Path, cache: VectorCache, tmp_path: Path) -> None:
    catalog = Catalog.read(pl.DataFrame(ROWS).drop_nulls())
    model = make(tiny_bert, ids=catalog.ids.array.slice(0, 0))  # none, but of integers, which JSON cannot tell
    vectors = model.embed_items(catalog, cache=cache)
    model.save(tmp_path / "model")
    assert np.array_equal(TwoTower.load(tmp_path / "model").embed_items(catalog, cache=cache), vectors)


def test_a_full_disk_is_told_in_a_sentence_and_leaves_the_earlier_model(tiny_bert: Path, tmp_path: Path) -> None:
    model = make(tiny_bert)
    model.save(tmp_path / "model")
    with torch.no_grad():
        model.log_scale += 1
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # room for the JSON files, not for the weights
    try:
        with pytest.raises(ArtefactError, match=r"^cannot write .*model: "):
            model.save(tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert TwoTower.load(tmp_path / "model").fingerprint != model.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("kind", ["both", "sequence only", "text only", "three interests"])
def test_a_person_alone_is_the_person_in_a_crowd(
    tiny_bert: Path, catalog: Catalog, cache: VectorCache, kind: str
) -> None:
    model = make(tiny_bert, **OFF[kind])
    memory = model.memory(catalog, model.embed_items(catalog, cache=cache))
    histories = HISTORIES.take([0, 1, 3]) if kind == "text only" else HISTORIES
    texts = [None, "quiet night", None, None][: len(histories)]
    together = model.encode(histories, memory, texts)
    for person in range(len(histories)):
        alone = model.encode(histories.take([person]), memory, [texts[person]])
        assert np.array_equal(alone[0], together[person])
    assert len(np.unique(together, axis=0)) == len(histories)
    assert np.array_equal(model.encode(histories, memory)[1], together[1]) == (kind == "sequence only")


@pytest.mark.parametrize("kind", ["both", "sequence only", "text only", "three interests"])
def test_people_read_together_are_those_read_alone(
    tiny_bert: Path, catalog: Catalog, cache: VectorCache, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the last bits, in batches of two, of which the last is smaller."""
    monkeypatch.setattr(user, "TOGETHER", 2)
    model = make(tiny_bert, **OFF[kind])
    memory = model.memory(catalog, model.embed_items(catalog, cache=cache))
    known = HISTORIES.take([3, 0, 1]) if kind == "text only" else HISTORIES
    many = known.take([*range(len(known)), 0, 1, 0])
    for texts in (None, ["quiet night", *[None] * (len(many) - 2), "a race"]):
        alone, together = model.encode(many, memory, texts), model.user.encode_together(many, memory, texts)
        np.testing.assert_allclose(together, alone, atol=2e-6)
    assert np.abs(alone - model.encode(many, memory)).max() > 0.01 or kind == "sequence only"
    with pytest.raises(InputError, match="nothing is known of this person"):
        model.user.encode_together(Histories.of([[0], []]), memory)


def test_a_query_is_the_gated_sum_of_what_the_readers_say(
    tiny_bert: Path, catalog: Catalog, cache: VectorCache
) -> None:
    model = make(tiny_bert)
    memory = model.memory(catalog, model.embed_items(catalog, cache=cache))
    assert model.user.sequence is not None
    assert model.user.text is not None
    no_text = Memory(memory.vectors, memory.id_rows, None)
    sequence = model.encode(HISTORIES, no_text)
    nobody = Histories.of([[]])
    text = model.encode(nobody, memory, ["loved quiet piano; night race;"])
    gates = {name: np.log1p(np.exp(gate.item())) for name, gate in model.user.fusion.gates.items()}
    rated = Histories.of([[2, 0]], ratings=[[float("nan"), 1]])
    fused = gates["sequence"] * model.encode(rated, no_text)[0] + gates["text"] * text[0]
    np.testing.assert_allclose(model.encode(rated, memory)[0], fused / np.linalg.norm(fused), atol=1e-6)
    assert not np.allclose(sequence, model.encode(HISTORIES, memory), atol=0.01)


def test_each_interest_is_the_one_query_with_a_last_layer_of_its_own(
    tiny_bert: Path, catalog: Catalog, cache: VectorCache
) -> None:
    """Text, and what is asked for in words, are fused into each."""
    one, three = make(tiny_bert), make(tiny_bert, user={"interests": 3})
    assert set(one.state_dict()) == set(three.state_dict())
    same = {name: value for name, value in one.state_dict().items() if ".sequence.out." not in name}
    three.load_state_dict(same, strict=False)
    memory = one.memory(catalog, one.embed_items(catalog, cache=cache))
    people, texts = HISTORIES.take([0, 2, 0, 1]), [None, None, "quiet night", "fast race"]
    nobody = Histories.of([[]])
    found, alone = three.encode(people, memory, texts), three.encode(nobody, memory, ["evening rain"])
    assert (found.shape, alone.shape) == ((4, 3, 8), (1, 3, 8))
    assert one.user.sequence is not None
    assert three.user.sequence is not None
    for interest in range(3):
        for ours, theirs in zip(one.user.sequence.out.parameters(), three.user.sequence.out.parameters(), strict=True):
            ours.data.copy_(theirs.data[8 * interest : 8 * interest + 8])
        np.testing.assert_allclose(found[:, interest], one.encode(people, memory, texts), atol=1e-6)
        np.testing.assert_allclose(alone[:, interest], one.encode(nobody, memory, ["evening rain"]), atol=1e-6)
    cosines = np.einsum("bkd,bjd->bkj", found, found)
    assert (cosines[:, [0, 0, 1], [1, 2, 2]] < 0.999).all()


def test_a_sentence_needs_no_history_and_replaces_the_history_text(
    tiny_bert: Path, catalog: Catalog, cache: VectorCache
) -> None:
    model = make(tiny_bert, user={"sequence": False})
    memory = model.memory(catalog, model.embed_items(catalog, cache=cache))
    asked = model.encode(Histories.of([[], [0, 1]]), memory, ["night race;", "night race;"])
    assert np.array_equal(asked[0], asked[1])
    assert np.array_equal(asked[0], model.encode(Histories.of([[2]]), memory)[0])


@pytest.mark.parametrize("kind", ["both", "sequence only", "text only"])
def test_nobody_is_refused(tiny_bert: Path, catalog: Catalog, cache: VectorCache, kind: str) -> None:
    model = make(tiny_bert, **OFF[kind])
    memory = model.memory(catalog, model.embed_items(catalog, cache=cache))
    with pytest.raises(InputError, match="nothing is known of this person"):
        model.encode(Histories.of([[0], []]), memory, [None, "" if kind != "sequence only" else "a sentence"])
    if kind == "text only":  # the one item has no text
        with pytest.raises(InputError, match="nothing is known of this person"):
            model.encode(Histories.of([[3]]), memory)


def test_no_reader_at_all_is_refused(tiny_bert: Path) -> None:
    with pytest.raises(InputError, match=r"needs a reader"):
        make(tiny_bert, user={"sequence": False, "text": False})


def test_more_history_than_the_encoder_reads_is_refused(tiny_bert: Path) -> None:
    with pytest.raises(InputError, match=r"budget is 513, but the text encoder reads 512"):
        make(tiny_bert, user={"text": {"history": {"budget": 513}}})


@pytest.mark.parametrize(("words", "fits"), [(13, True), (14, False)])
def test_a_prefix_that_leaves_a_history_no_room_is_refused(tiny_bert: Path, words: int, fits: bool) -> None:
    encoder = TextEncoder.load(TextConfig(source=str(tiny_bert), prefix="quiet " * words))
    config = TextReaderConfig(history=HistoryTextConfig(budget=16))
    with nullcontext() if fits else pytest.raises(InputError, match=r"prefix takes 14 tokens, which leaves no room"):
        TextReader(config=config, encoder=encoder, hidden=8, dimension=8)


def test_an_item_with_nothing_has_no_vector(tiny_bert: Path, catalog: Catalog, cache: VectorCache) -> None:
    vectors = make(tiny_bert, ids=(11,)).embed_items(catalog, cache=cache)
    assert [bool(row.any()) for row in vectors] == [item != 13 for item in catalog.ids.to_list()]


def test_items_keep_their_vectors_in_another_catalog(tiny_bert: Path, catalog: Catalog, cache: VectorCache) -> None:
    """Own vectors follow ids, not rows; new items are read by their text."""
    model = make(tiny_bert)
    vectors = model.embed_items(catalog, cache=cache)
    other = Catalog.read(pl.DataFrame({"item_id": [99, 13, 11], "title": ["night race", None, "fast engine"]}))
    again = model.embed_items(other, cache=cache)
    np.testing.assert_allclose(again, vectors[[2, 3, 1]], atol=1e-6)
    assert model.id_rows(other).tolist() == [-1, 0, 1]


def test_the_space_is_the_item_side_alone(tiny_bert: Path) -> None:
    model = make(tiny_bert)
    space, fingerprint = model.space, model.fingerprint

    def change(weight: torch.Tensor) -> tuple[bool, bool]:
        nonlocal space, fingerprint
        with torch.no_grad():
            weight += 0.1
        old, space, fingerprint = (space, fingerprint), model.space, model.fingerprint
        return space != old[0], fingerprint != old[1]

    assert model.user.sequence is not None
    assert model.user.text is not None
    assert change(model.rating.level.weight) == (False, True)
    assert change(model.rating.weight) == (False, True)
    assert change(model.user.sequence.positions) == (False, True)
    assert change(next(model.user.text.encoder.layers[1].parameters())) == (False, True)
    assert change(model.item.id.weight) == (True, True)
    assert change(model.item.text.centre) == (True, True)
    assert change(next(model.encoder.layers[1].parameters())) == (True, True)
    assert make(tiny_bert, ids=(11, 13)).space != make(tiny_bert).space
    assert make(tiny_bert, template="a {title}").space != make(tiny_bert).space
    assert make(tiny_bert).space == make(tiny_bert).space


def test_a_setting_that_a_later_version_adds_leaves_the_space_alone(tiny_bert: Path) -> None:
    class Later(ItemConfig):
        invented: int = 3

    model = make(tiny_bert)
    before = model.space, model.fingerprint
    for invented, same in ((3, True), (4, False)):
        item = Later(**model.config.item.model_dump(exclude={"invented"}), invented=invented)
        model.config = model.config.model_copy(update={"item": item})
        assert (model.space == before[0]) == same
        assert (model.fingerprint == before[1]) == same


def test_shared_layers_are_stored_once(tiny_bert: Path, tmp_path: Path) -> None:
    make(tiny_bert).save(tmp_path / "one")
    make(tiny_bert, user={"text": {"tune": "all"}}).save(tmp_path / "all")
    one, everything = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "all"))
    extra = set(everything) - set(one)
    assert not any(name.startswith("user.text.encoder.embeddings.") for name in one)
    assert any(name.startswith("user.text.encoder.layers.0.") for name in one)  # two of two layers are tuned
    assert extra
    assert all(name.startswith("user.text.encoder.embeddings.") for name in extra)
    loaded = TwoTower.load(tmp_path / "one")
    assert loaded.user.text is not None
    mine, theirs = next(loaded.encoder.parameters()), next(loaded.user.text.encoder.parameters())
    assert mine.data_ptr() == theirs.data_ptr()


def changed(folder: Path, name: str, change: float | None) -> None:
    """Alter one weight (or take it away) and make the manifest vouch for it, as a careless tool would."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    if change is None:
        del weights[name]
    else:
        weights[name] = weights[name] + change
    save_file(weights, file)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][file.name] = {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_weights_that_are_not_the_models_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    make(tiny_bert).save(folder)
    changed(folder, "item.id.weight", 1.0)
    with pytest.raises(ArtefactError, match="does not have the weights that its manifest names"):
        TwoTower.load(folder)
    changed(folder, "item.id.weight", None)
    with pytest.raises(ArtefactError, match=r"lacks weights .*item\.id\.weight"):
        TwoTower.load(folder)


def test_a_damaged_file_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    make(tiny_bert).save(folder)
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtefactError, match="has changed since it was written"):
        TwoTower.load(folder)


def test_rerank_scores_by_hand(tiny_bert: Path) -> None:
    model = make(tiny_bert)
    with torch.no_grad():
        model.log_scale.fill_(np.log(20))
    scores = model.rerank_scores(np.array([[0.5, 0.4]], np.float32), np.array([[0.0, 1.0]], np.float32))
    np.testing.assert_allclose(scores, [[10.0, 8.7]], rtol=1e-6)
    with torch.no_grad():
        model.log_scale.fill_(9)
    assert model.scale.item() == pytest.approx(np.exp(4.6), rel=1e-6)


def test_nothing_is_learned_by_reading(tiny_bert: Path, catalog: Catalog, cache: VectorCache) -> None:
    """Embedding and encoding leave a model in training as it was, dropout aside."""
    model = make(tiny_bert).train()
    one, two = (answers(model, catalog, cache)[1] for _ in range(2))
    assert np.array_equal(one, two)
