"""Masked-language pre-training: what is hidden, what that costs, and what the towers begin with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from transformers import BertForMaskedLM

from towers.artefact import read_manifest
from towers.catalog import Catalog
from towers.embed import VectorCache
from towers.errors import InputError, MissingExtraError, TwoTowerError, WeightsError
from towers.model import KIND, TwoTower
from towers.text import TextConfig, TextEncoder
from training.config import PretrainConfig, Recipe
from training.measuring.protocols import last_event
from training.pretraining import MaskedHead, MaskedReader, Masker, pretrain
from training.trainer import fit, train
from training.untrained import new_model


def test_the_head_by_hand() -> None:
    """A state that the new layer turns into (2, 0) is (1, -1) once normalised: logits 1, -1 and 0 of three words."""
    words = nn.Embedding.from_pretrained(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]))
    head = MaskedHead(words, hidden=2)
    with torch.no_grad():
        head.dense.weight.copy_(torch.eye(2))
        head.dense.bias.zero_()
        logits = head(torch.tensor([[20.0, -20.0]]))[0]
    np.testing.assert_allclose(logits, [1.0, -1.0, 0.0], atol=1e-5)
    loss = nn.functional.cross_entropy(logits[None], torch.tensor([1]))
    assert float(loss) == pytest.approx(1 + math.log(math.e + 1 + 1 / math.e), rel=1e-5)  # 2.4076


def test_the_loss_is_berts(tiny_bert: Path) -> None:
    """`transformers` with the same weights, which it takes from the head, and -100 where nothing is asked."""
    reader = MaskedReader(TextEncoder.load(TextConfig(source=str(tiny_bert)))).eval()
    theirs = BertForMaskedLM.from_pretrained(tiny_bert).eval()
    made = theirs.cls.predictions
    made.transform.dense.load_state_dict(reader.head.dense.state_dict())
    made.transform.LayerNorm.load_state_dict(reader.head.norm.state_dict())
    ids, mask = reader.encoder.pad(reader.encoder.tokenize(["quiet piano in the evening rain", "motor race"]))
    hidden, asked = Masker.of(reader.encoder.tokenizer, 0.5, seed=3)(ids, mask)
    with torch.no_grad():
        nn.init.normal_(reader.head.bias)
        made.bias.copy_(reader.head.bias)
        made.decoder.bias = made.bias
        ours = reader(hidden, mask, ids, asked)
        wanted = theirs(input_ids=hidden, attention_mask=mask.long(), labels=ids.masked_fill(~asked, -100)).loss
    assert ours.shape == (int(asked.sum()),)
    assert int(asked.sum()) > 3
    assert float(ours.mean()) == pytest.approx(float(wanted), rel=1e-5)


def test_shares_of_what_is_hidden(tiny_bert: Path) -> None:
    tokenizer = TextEncoder.load(TextConfig(source=str(tiny_bert))).tokenizer
    special = torch.tensor(tokenizer.all_special_ids)
    ids = torch.randint(5, len(tokenizer), (2_000, 102), generator=torch.Generator().manual_seed(0))
    ids[:, 0], ids[:, -1] = tokenizer.cls_token_id, tokenizer.sep_token_id
    hidden, asked = Masker.of(tokenizer, 0.15, seed=0)(ids, torch.ones_like(ids, dtype=torch.bool))
    assert asked.sum(1).tolist() == [15] * 2_000  # of 100 tokens beside the special ones
    assert not asked[:, [0, -1]].any()
    assert not torch.isin(ids[asked], special).any()
    assert torch.equal(hidden[~asked], ids[~asked])
    now, then = hidden[asked], ids[asked]
    masked = now == tokenizer.mask_token_id
    total, other = asked.sum(), (now != then) & ~masked
    assert float(masked.sum() / total) == pytest.approx(0.8, abs=0.01)  # 30,000 tokens: three standard errors are 0.007
    by_chance = 0.1 / (len(tokenizer) - len(special))  # another token may be the same one
    assert float(other.sum() / total) == pytest.approx(0.1 - by_chance, abs=0.006)
    assert float((now == then).sum() / total) == pytest.approx(0.1 + by_chance, abs=0.006)
    assert not torch.isin(now[other], special).any()
    assert len(now[other].unique()) > 0.9 * (len(tokenizer) - len(special))


def test_masks_change_and_short_texts_have_one(tiny_bert: Path) -> None:
    tokenizer = TextEncoder.load(TextConfig(source=str(tiny_bert))).tokenizer
    start, end, unknown, pad = (getattr(tokenizer, f"{name}_token_id") for name in ("cls", "sep", "unk", "pad"))
    ids = torch.tensor([[start, 9, 10, end, pad], [start, unknown, 11, 12, end], [start, unknown, end, pad, pad]])
    masker = Masker.of(tokenizer, 0.15, seed=0)
    draws = torch.stack([masker(ids, ids != pad)[1] for _ in range(200)])
    assert draws.sum(2).unique(dim=0).tolist() == [[1, 1, 0]]
    often = draws.float().mean(0)
    assert often[0, [1, 2]].tolist() == pytest.approx([0.5, 0.5], abs=0.12)
    assert often[1, [2, 3]].tolist() == pytest.approx([0.5, 0.5], abs=0.12)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """40 texts in which the third word follows from the first two, each of them there twice."""
    first, second, third = ["piano", "violin"], ["quiet", "fast"], ["evening", "rain", "engine", "race"]
    made = [f"{first[n % 2]} {second[n // 2 % 2]} {third[n % 4]} {chr(97 + n // 4)}" for n in range(40)]
    path = tmp_path_factory.mktemp("catalog") / "items.parquet"
    pl.DataFrame({"item_id": [f"t{n:02}" for n in range(80)], "title": made * 2}).write_parquet(path)
    return Catalog.read(path)


def untrained(tiny_bert: Path, catalog: Catalog, **values: Any) -> TwoTower:
    recipe = Recipe.read({"text": {"source": str(tiny_bert)}, "item": {"template": "{title}"}, **values})
    return new_model(catalog, np.zeros(len(catalog), np.int64), recipe)


SHORT = PretrainConfig(epochs=30, texts=10, mask=0.25, rate=5e-3, rate_pretrained=5e-3)


def test_the_loss_falls_and_a_seed_fixes_all(tiny_bert: Path, catalog: Catalog) -> None:
    user = {"text": {"tune": 1, "history": {"budget": 48}}}
    models = [untrained(tiny_bert, catalog, user=user) for _ in range(3)]
    before = torch.random.get_rng_state()
    losses = [pretrain(model, catalog, SHORT, seed=seed) for model, seed in zip(models, (0, 0, 1), strict=True)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert len(losses[0]) == 30
    assert losses[0][0] > 3  # of log(150) at first
    assert np.mean(losses[0][-5:]) < 0.6 * losses[0][0]
    assert losses[0] == losses[1] != losses[2]
    prints = [model.encoder.fingerprint for model in models]
    assert prints[0] == prints[1] != prints[2]
    old, new = TextEncoder.load(models[0].encoder.config), models[0].encoder
    assert not any(torch.equal(weight, new.state_dict()[name]) for name, weight in old.state_dict().items())
    assert not any(weight.requires_grad for weight in new.parameters())
    assert not new.training
    assert models[0].user.text is not None
    reader = models[0].user.text.encoder
    for name, weight in reader.state_dict().items():
        assert torch.equal(weight, new.state_dict()[name])
    assert reader.frozen_layers == 1
    assert reader.layers[0] is new.layers[0]
    assert reader.layers[1] is not new.layers[1]


def test_off_nothing_is_touched(tiny_bert: Path, catalog: Catalog) -> None:
    model, before = untrained(tiny_bert, catalog), torch.random.get_rng_state()
    fingerprint = model.fingerprint
    assert pretrain(model, catalog, PretrainConfig(rate=1.0), seed=0) == []
    assert model.fingerprint == fingerprint
    assert torch.equal(torch.random.get_rng_state(), before)


def trained(run: Any, out: Path | None = None, **pretraining: Any) -> TwoTower:
    recipe = Recipe.read(run.recipe)
    config = PretrainConfig(texts=8, rate=5e-3, rate_pretrained=1e-3, **pretraining)
    return train(run.catalog, run.log, recipe=recipe.model_copy(update={"pretrain": config}), out=out, progress=False)


def test_a_model_trained_this_way(tiny_run: Any, tmp_path: Path) -> None:
    """Saved and read again it gives the same vectors; neither index nor cache take it for the other model."""
    model = trained(tiny_run, tmp_path / "model", epochs=3)
    assert trained(tiny_run, epochs=0).fingerprint == tiny_run.model.fingerprint
    assert model.encoder.fingerprint != tiny_run.model.encoder.fingerprint
    assert model.space != tiny_run.model.space
    cache = VectorCache(tmp_path / "cache")
    tiny_run.model.embed_items(tiny_run.catalog, cache=cache)
    vectors = model.embed_items(tiny_run.catalog, cache=cache)
    again = TwoTower.load(tmp_path / "model")
    np.testing.assert_array_equal(again.embed_items(tiny_run.catalog, cache=VectorCache(tmp_path / "other")), vectors)
    assert (again.fingerprint, again.space) == (model.fingerprint, model.space)
    assert len({path.parent for path in cache.folder.rglob("*.npz")}) == 2
    told = read_manifest(tmp_path / "model", KIND)["training"]["pretraining"]
    assert len(told) == 3
    assert told[-1] < told[0]
    curves = EventAccumulator(str(tmp_path / "tensorboard/model")).Reload()
    assert [(one.step, one.value) for one in curves.Scalars("pretraining")] == [(0, pytest.approx(told[-1]))]


class Stopped(Exception):
    pass


def test_a_training_that_was_stopped_begins_with_the_same_encoder(tiny_run: Any, tmp_path: Path) -> None:
    recipe = Recipe.read(tiny_run.recipe)
    recipe = recipe.model_copy(
        update={
            "pretrain": PretrainConfig(epochs=2, texts=8),
            "train": recipe.train.model_copy(update={"checkpoint_seconds": 0}),
        }
    )
    _, positives = tiny_run.log.known(tiny_run.catalog).histories(tiny_run.catalog, positive=recipe.data)
    past, validation = last_event(positives)
    whole, _ = fit(tiny_run.catalog, past, validation, recipe, progress=False)

    def stop(epoch: int, _: Any) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        fit(tiny_run.catalog, past, validation, recipe, checkpoints=tmp_path / "kept", progress=False, watch=stop)
    again, report = fit(tiny_run.catalog, past, validation, recipe, checkpoints=tmp_path / "kept", progress=False)
    assert again.fingerprint == whole.fingerprint
    assert len(report.pretraining) == 2


def test_what_cannot_be_trained_is_refused_before(
    tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.read(tiny_run.recipe).model_copy(update={"pretrain": PretrainConfig(epochs=1, texts=8)})
    told = recipe.train.model_copy(update={"checkpoint_seconds": 0, "rate": 1e-4})
    slower = recipe.model_copy(update={"train": told})
    _, positives = tiny_run.log.known(tiny_run.catalog).histories(tiny_run.catalog, positive=recipe.data)
    past, validation = last_event(positives)

    def stop(epoch: int, _: Any) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        fit(tiny_run.catalog, past, validation, slower, checkpoints=tmp_path / "kept", progress=False, watch=stop)
    monkeypatch.setattr("training.trainer.pretrain", None)  # calling it would be a TypeError
    with pytest.raises(InputError, match="holds checkpoints of another training"):
        fit(tiny_run.catalog, past, validation, recipe, checkpoints=tmp_path / "kept", progress=False)
    with pytest.raises(InputError, match="validation needs a person"):
        fit(tiny_run.catalog, past, validation.take(np.empty(0, np.int64)), recipe, progress=False)
    monkeypatch.setattr("training.trackers.importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="the tracker tensorboard needs its library"):
        fit(tiny_run.catalog, past, validation, recipe, out=tmp_path / "model", progress=False)


def test_what_cannot_be_is_refused(tiny_bert: Path, catalog: Catalog) -> None:
    deaf = untrained(tiny_bert, catalog, item={"template": "{title}", "text": False}, user={"text": False})
    with pytest.raises(InputError, match="nothing reads text"):
        pretrain(deaf, catalog, SHORT, seed=0)
    model = untrained(tiny_bert, catalog)
    model.template = " "
    with pytest.raises(InputError, match="no item has a text to learn from"):
        pretrain(model, catalog, SHORT, seed=0)
    with pytest.raises(TwoTowerError, match=r"became nan at step \d+: lower pretrain.rate_pretrained"):
        pretrain(untrained(tiny_bert, catalog), catalog, SHORT.model_copy(update={"rate_pretrained": 1e30}), seed=0)
    encoder = TextEncoder.load(TextConfig(source=str(tiny_bert)))
    encoder.tokenizer.mask_token = None
    with pytest.raises(WeightsError, match="has no mask token"):
        MaskedReader(encoder)
