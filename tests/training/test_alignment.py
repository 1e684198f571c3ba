"""Kinds of content that find each other: the loss by hand, what is trained, and a model from a catalog alone."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from indexing.build import build_index
from serving.retriever import Retriever
from towers.catalog import Catalog
from towers.embed import VectorCache
from towers.errors import InputError, TwoTowerError
from towers.history import Histories
from towers.interactions import Interactions
from towers.model import TwoTower
from training.alignment import find_each_other
from training.config import Recipe
from training.trainer import train

ITEMS = 24  # even ones are about music, odd ones about motors, and their sounds say which


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    rng = np.random.default_rng(0)
    words = (["piano", "violin", "music", "quiet", "evening"], ["engine", "motor", "race", "fast", "motors"])
    columns = {
        "item_id": [f"t{n:02}" for n in range(ITEMS)],
        "title": [" ".join(rng.permutation(words[n % 2])[:3]) for n in range(ITEMS)],
        "audio": [[1.0 - n % 2, float(n % 2), *rng.normal(0, 0.3, 4)] if n < ITEMS - 1 else None for n in range(ITEMS)],
    }
    path = tmp_path_factory.mktemp("catalog") / "items.parquet"
    pl.DataFrame(columns).write_parquet(path)
    return Catalog.read(path)


def recipe(tiny_bert: Path, **values: Any) -> dict[str, Any]:
    return {
        "text": {"source": str(tiny_bert)} | values.pop("text", {}),
        "audio": values.pop("audio", {"source": "vectors"}),
        "item": {"dimension": 16, "hidden": 32, "template": "{title}"},
        "user": {"text": {"tune": 1, "history": {"budget": 48}}},
        "align": {"epochs": 60, "rate": 5e-3} | values.pop("align", {}),
        **values,
    }


def test_the_loss_by_hand() -> None:
    """Three items, of which the first and the last have the same text: each is no negative of the other."""
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    second = torch.tensor([[0.8, 0.6], [0.0, 1.0], [1.0, 0.0]])
    scale = 2.0
    logits = scale * first.numpy() @ second.numpy().T
    logits[0, 2] = logits[2, 0] = -math.inf
    there = -np.mean([row[n] - math.log(np.exp(row).sum()) for n, row in enumerate(logits)])
    back = -np.mean([row[n] - math.log(np.exp(row).sum()) for n, row in enumerate(logits.T)])
    found = find_each_other(first, second, torch.tensor([5, 1, 5]), torch.tensor([0, 1, 2]), torch.tensor(scale))
    assert float(found) == pytest.approx((there + back) / 2, rel=1e-6)
    assert there != pytest.approx(back, rel=1e-2)


@pytest.fixture(scope="module")
def aligned(catalog: Catalog, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoTower]:
    """A model of a catalog without a log, saved and read again."""
    folder = tmp_path_factory.mktemp("aligned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWOTOWER_CACHE", str(folder))
        trained = train(catalog, recipe=recipe(tiny_bert), out=folder / "model", progress=False)
        model = TwoTower.load(folder / "model")
        assert model.fingerprint == trained.fingerprint
        yield model


def test_a_sound_finds_its_kind_of_text_and_back(aligned: TwoTower, catalog: Catalog) -> None:
    contents, _ = aligned.contents(catalog, VectorCache())
    by = {name: aligned.item_vectors(contents, aligned.id_rows(catalog), by=name)[:-1] for name in ("text", "audio")}
    similarity = by["audio"] @ by["text"].T
    for scores in (similarity, similarity.T):
        nearest = scores.argsort(axis=1)[:, ::-1][:, :8]
        assert ((nearest % 2) == (np.arange(len(scores)) % 2)[:, None]).mean() > 0.95
    assert not aligned.item_vectors(contents, aligned.id_rows(catalog), by="audio")[-1].any()


def test_it_answers_sentences_and_histories_without_a_log(aligned: TwoTower, catalog: Catalog) -> None:
    shop = Retriever(aligned, build_index(aligned, catalog, progress=False), catalog)
    for kind, words in enumerate(("quiet piano music", "fast motor race")):
        assert [int(one.item[1:]) % 2 for one in shop.recommend(text=words, k=6)] == [kind] * 6
    assert [int(one.item[1:]) % 2 for one in shop.recommend(history=["t02", "t04"], k=4)].count(0) >= 3
    assert aligned.user.sequence is None
    assert not aligned.rating.fitted


def test_it_answers_what_is_shown_without_a_log(
    aligned: TwoTower, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone its vector is the question; beside words or a history both count alike."""
    heard = aligned.embed_items(catalog, by="audio")[4:5]
    monkeypatch.setattr(aligned, "encode_media", lambda media: heard)  # vectors are given here, so no encoder is there
    index = build_index(aligned, catalog, progress=False)
    shop = Retriever(aligned, index, catalog)
    found = shop.recommend(audio=b"", k=6)
    assert [int(one.item[1:]) % 2 for one in found] == [0] * 6
    np.testing.assert_allclose([one.retrieval for one in found], np.sort(index.vectors @ heard[0])[::-1][:6], atol=1e-5)
    reason = shop.explain(found[0].item, audio=b"")
    assert [(one.name, one.value) for one in reason.parts] == [("shown", pytest.approx(found[0].score, abs=1e-4))]
    memory, one_more = aligned.memory(catalog, aligned.embed_items(catalog)), Histories.of([[2, len(catalog)]])
    shown = memory.with_one_more(torch.from_numpy(heard))
    for words in ("fast motor race", None):
        text = aligned.encode(Histories.of([[2]]), memory, [words])
        both = aligned.encode(one_more, shown, [words])
        np.testing.assert_allclose(both, (heard + text) / np.linalg.norm(heard + text), atol=1e-5)


def test_a_catalog_without_a_column_is_one_without_such_content(
    aligned: TwoTower, catalog: Catalog, tiny_bert: Path
) -> None:
    """As if no item had any, said once; in training such a column is a slip of the pen."""
    silent = pl.DataFrame(catalog.table.drop_columns("audio"))
    bare, empty = Catalog.read(silent), Catalog.read(silent.with_columns(audio=None))
    ask = {"text": "quiet piano"}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        index = build_index(aligned, bare, shard=7, progress=False)
        assert np.array_equal(index.vectors, build_index(aligned, empty, shard=7, progress=False).vectors)
    (one,) = told
    assert str(one.message) == (
        "the polars frame has no column 'audio'; it has: item_id, title: its items are read without audio"
    )
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        shop, full = (Retriever(aligned, index, items) for items in (bare, empty))
        for _ in range(2):
            assert shop.explain("t02", **ask).contents == full.explain("t02", **ask).contents
            assert [one.item for one in shop.similar("t02", by="text")] == [
                one.item for one in full.similar("t02", by="text")
            ]
            with pytest.raises(InputError, match="item 't02' has no audio in the catalog that can be read"):
                shop.similar("t02", by="audio")
        assert not aligned.embed_items(bare, by="audio").any()
    assert len(told) == 1
    with pytest.raises(InputError, match="has no column 'audoi'"):
        train(bare, recipe=recipe(tiny_bert, audio={"source": "yamnet", "column": "audoi"}), progress=False)


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_a_bad_vector_costs_its_item_that_kind_alone(
    catalog: Catalog, tiny_bert: Path, own_cache: Path, tmp_path: Path, ending: str
) -> None:
    """In training, and in an index that is built with the model, where its words remain."""
    rows = catalog.table.to_pylist()
    rows[3]["audio"], rows[5]["audio"], rows[7]["audio"] = [1.0], [0.0] * 6, [math.inf, *[0.5] * 5]
    file = tmp_path / f"items.{ending}"
    if ending == "parquet":
        pl.DataFrame(rows, schema_overrides={"audio": pl.List(pl.Float32)}).write_parquet(file)
    else:
        rows[7]["audio"][0] = None
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    bad = Catalog.read(file)
    settings = recipe(tiny_bert, align={"epochs": 1})
    with pytest.warns(UserWarning, match="3 pictures, sounds or vectors of 24 items cannot be used"):
        model = train(bad, recipe=settings, out=tmp_path / "model", progress=False)
    with pytest.warns(UserWarning, match="3 pictures, sounds or vectors of 24 items cannot be used"):
        index = build_index(model, bad, out=tmp_path / "index", progress=False)
    assert len(index.ids) == ITEMS
    for name in ("model", "index"):
        lines = (tmp_path / f"{name}.rejected.jsonl").read_text("utf-8").splitlines()
        told = {row["row"]: (row["reason"], row["value"]) for row in map(json.loads, lines)}
        first = "inf" if ending == "parquet" else "None"
        assert told == {
            4: ("audio is a vector of another length: 1 instead of 6", "[1.0]"),
            6: ("audio is a vector that is not finite, or zero", str([0.0] * 6)),
            8: ("audio is a vector that is not finite, or zero", f"[{first}, 0.5, 0.5, 0.5, 0.5, 0.5]"),
        }


def test_a_column_that_is_read_without_being_asked_for_says_how_to_be_left_alone(
    tiny_bert: Path, own_cache: Path, tmp_path: Path
) -> None:
    """Pictures stand as vectors, whether there is a sound as booleans; no encoder is loaded before that is told."""
    columns = {
        "item_id": range(6),
        "title": ["quiet piano"] * 6,
        "audio": [True] * 6,
        "image": [[1.0, n] for n in range(6)],
    }
    catalog, file = Catalog.read(pl.DataFrame(columns)), tmp_path / "recipe.toml"
    lines = [f'text.source = "{tiny_bert}"', "align.epochs = 1", "item = {dimension = 16, hidden = 32}"]
    for said in ('image = {source = "vectors"}', "audio = false"):
        file.write_text("\n".join(lines), "utf-8")
        with pytest.raises(InputError, match=re.escape(said)):
            train(catalog, recipe=file, weights=tmp_path / "none", progress=False)
        lines.append(said)
    file.write_text("\n".join(lines), "utf-8")
    model = train(catalog, recipe=file, progress=False)
    assert set(model.config.media) == {"image"}
    lines[-2] = "image = false"
    file.write_text("\n".join(lines), "utf-8")
    assert Recipe.read(file).image is None
    with pytest.raises(InputError, match="items need two of them"):  # nothing but the text is left
        train(catalog, recipe=file, progress=False)


@pytest.mark.parametrize("tune", [1, "lora", "all"])
def test_a_tuned_encoder_moves_and_its_copy_follows(
    catalog: Catalog, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tune: Any
) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path))
    settings = recipe(tiny_bert, text={"tune": tune}, align={"epochs": 3, "rate_pretrained": 1e-3})
    before = train(catalog, recipe=recipe(tiny_bert, align={"epochs": 1}), progress=False).encoder.state_dict()
    model = train(catalog, recipe=settings, out=tmp_path / "model", progress=False)
    after = model.encoder.state_dict()
    assert set(after) == set(before)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    lower = {name for name in moved if name.startswith(("embeddings.", "layers.0."))}
    assert moved
    assert bool(lower) == (tune != 1)
    assert any(name.startswith("embeddings.") for name in moved) == (tune == "all")
    assert model.user.text is not None
    for name, weight in model.user.text.encoder.state_dict().items():
        assert torch.equal(weight, after[name])
    assert not any(weight.requires_grad for weight in model.encoder.parameters())
    again = TwoTower.load(tmp_path / "model")
    np.testing.assert_array_equal(
        again.embed_items(catalog, cache=VectorCache()), model.embed_items(catalog, cache=VectorCache())
    )


def test_with_a_log_an_encoder_is_tuned_by_how_items_are_used(
    catalog: Catalog, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sounds are off, so that use is the only other kind, and the same seed gives the same weights."""
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path))
    rng = np.random.default_rng(0)
    events = [(u, f"t{i:02}", n) for u in range(30) for n, i in enumerate(rng.permutation(np.arange(u % 2, 23, 2))[:6])]
    log = Interactions.read(pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row"))
    settings = recipe(tiny_bert, text={"tune": 1}, align={"epochs": 2, "rate_pretrained": 1e-3}, audio=False)
    settings["train"] = {"epochs": 2, "text_epochs": 1, "evaluate_every": 1, "batch_people": 16, "sentences": 8}
    model, again = (train(catalog, log, recipe=settings, progress=False) for _ in range(2))
    frozen = train(catalog, log, recipe=settings | {"text": {"source": str(tiny_bert)}}, progress=False)
    assert model.fingerprint == again.fingerprint
    assert model.encoder.fingerprint != frozen.encoder.fingerprint


def test_one_kind_of_content_alone_is_refused(catalog: Catalog, tiny_bert: Path) -> None:
    with pytest.raises(InputError, match="items need two of them, such as a text and a picture; none have"):
        train(catalog, recipe=recipe(tiny_bert, audio=False), progress=False)
    with pytest.raises(InputError, match="the protocol 'temporal' needs a log"):
        train(catalog, recipe=recipe(tiny_bert), protocol="temporal", progress=False)


def test_a_loss_that_is_no_number_stops_it_with_a_sentence(
    catalog: Catalog, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path))
    with pytest.raises(
        TwoTowerError, match=r"the (loss|gradient) of aligning became nan at step \d+: lower align.rate"
    ):
        train(catalog, recipe=recipe(tiny_bert, align={"rate": 1e30}), out=tmp_path / "model", progress=False)
    assert not (tmp_path / "model").exists()


def test_vectors_have_nothing_to_tune(catalog: Catalog, tiny_bert: Path) -> None:
    with pytest.raises(InputError, match="vectors have no encoder to be tuned"):
        train(catalog, recipe=recipe(tiny_bert, audio={"source": "vectors", "tune": 2}), progress=False)
