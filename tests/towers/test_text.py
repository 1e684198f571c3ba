"""The text encoder against `transformers`' own forward, and what a copy for fine-tuning shares."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    AutoTokenizer,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    PretrainedConfig,
    RobertaConfig,
)

from towers.errors import InputError, WeightsError
from towers.text import TextConfig, TextEncoder, embed_texts

TEXTS = (
    "a quiet piano piece for a rainy evening",
    "soft piano music, slow and calm",
    "a race between very fast cars",
    "",
    "The Good, the Bad and the Ugly (1966). Western. " * 20,
)


@pytest.fixture(scope="module")
def encoder(minilm: Path) -> TextEncoder:
    return TextEncoder.load(TextConfig(source=str(minilm)))


@pytest.fixture
def tiny(tiny_bert: Path) -> TextEncoder:
    return TextEncoder.load(TextConfig(source=str(tiny_bert)))


def masked_mean(source: str | Path, texts: Sequence[str], max_tokens: int = 128) -> np.ndarray:
    """What a reader of the model card would write."""
    tokenizer, model = AutoTokenizer.from_pretrained(source), AutoModel.from_pretrained(source).eval()
    batch = tokenizer(list(texts), padding=True, truncation=True, max_length=max_tokens, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None].float()
    return ((hidden * mask).sum(1) / mask.sum(1)).numpy()


def test_vectors_are_those_of_transformers(encoder: TextEncoder, minilm: Path) -> None:
    vectors = embed_texts(encoder, TEXTS, batch_size=2)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, masked_mean(minilm, TEXTS), atol=1e-5)


def test_a_vector_does_not_depend_on_its_batch(encoder: TextEncoder) -> None:
    alone = np.concatenate([embed_texts(encoder, [text]) for text in TEXTS])
    np.testing.assert_allclose(embed_texts(encoder, TEXTS), alone, atol=1e-5)


def test_alike_texts_have_alike_vectors(encoder: TextEncoder) -> None:
    vectors = embed_texts(encoder, TEXTS[:3])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pianos, quiet_race, soft_race = vectors[0] @ vectors[1], vectors[0] @ vectors[2], vectors[1] @ vectors[2]
    assert pianos > 0.5 > 0.3 > max(quiet_race, soft_race)


def test_no_text_no_vector(tiny: TextEncoder) -> None:
    assert embed_texts(tiny, []).shape == (0, 32)


def test_prefix_pooling_and_cut(tiny_bert: Path) -> None:
    config = TextConfig(source=str(tiny_bert), pooling="cls", prefix="quiet: ", max_tokens=8)
    encoder = TextEncoder.load(config)
    tokens = encoder.tokenize(["piano night", "rain " * 20])
    words = [encoder.tokenizer.convert_ids_to_tokens(row) for row in tokens]
    assert words == [["quiet", ":", "piano", "night"], ["quiet", ":", *["rain"] * 4]]
    assert encoder.tokenizer.convert_ids_to_tokens(encoder.tokenize_plain(["piano"])[0]) == ["piano"]
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_bert), AutoModel.from_pretrained(tiny_bert).eval()
    with torch.no_grad():
        first = model(**tokenizer("quiet: piano night", return_tensors="pt")).last_hidden_state[:, 0]
    np.testing.assert_allclose(embed_texts(encoder, ["piano night"]), first.numpy(), atol=1e-6)


@pytest.mark.parametrize("family", ["roberta", "distilbert"])
def test_other_families_give_the_librarys_vectors(tiny_bert: Path, tmp_path: Path, family: str) -> None:
    folder = of_family(tiny_bert, tmp_path, family)
    encoder = TextEncoder.load(TextConfig(source=str(folder), max_tokens=32))
    assert len(encoder.layers) == 3
    np.testing.assert_allclose(embed_texts(encoder, TEXTS), masked_mean(folder, TEXTS, 32), atol=1e-5)


@pytest.mark.parametrize("family", ["modernbert", "electra"])
def test_a_backbone_that_cannot_be_run_layer_by_layer_is_refused(tiny_bert: Path, tmp_path: Path, family: str) -> None:
    folder = of_family(tiny_bert, tmp_path, family)
    with pytest.raises(WeightsError, match=r"choose an encoder of the BERT"):
        TextEncoder.load(TextConfig(source=str(folder), max_tokens=32))


def of_family(tiny_bert: Path, folder: Path, family: str) -> Path:
    """A folder with a random model of another family and the vocabulary of the tiny BERT."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    size = {"vocab_size": len(tokenizer), "max_position_embeddings": 40}
    usual = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    shapes: dict[str, PretrainedConfig] = {
        "roberta": RobertaConfig(**size, **usual, pad_token_id=0, bos_token_id=2, eos_token_id=3),
        "distilbert": DistilBertConfig(**size, dim=32, n_layers=3, n_heads=4, hidden_dim=48),
        "electra": ElectraConfig(**size, **usual, embedding_size=16),
        "modernbert": ModernBertConfig(
            **size, **usual, pad_token_id=0, bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3
        ),
    }
    torch.manual_seed(0)
    model = AutoModel.from_config(shapes[family])
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_more_tokens_than_positions_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"max_tokens is 600, but .* reads 512 tokens"):
        TextEncoder.load(TextConfig(source=str(tiny_bert), max_tokens=600))
    folder = of_family(tiny_bert, tmp_path, "roberta")  # 40 positions, of which the padding takes one
    with pytest.raises(InputError, match="reads 39 tokens"):
        TextEncoder.load(TextConfig(source=str(folder), max_tokens=40))
    long = TextEncoder.load(TextConfig(source=str(folder), max_tokens=39))
    assert np.isfinite(embed_texts(long, ["rain " * 100])).all()


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no text encoder could be loaded"):
        TextEncoder.load(TextConfig(source=str(tmp_path)))


@pytest.mark.parametrize(("top", "shared"), [(0, 2), (1, 1), (2, 0)])
def test_a_copy_shares_its_lower_layers_and_trains_its_upper(tiny: TextEncoder, top: int, shared: int) -> None:
    tiny.requires_grad_(False)
    other = tiny.tunable_copy(top)
    same = [a.data_ptr() == b.data_ptr() for a, b in zip(tiny.parameters(), other.parameters(), strict=True)]
    names = [name for name, _ in tiny.named_parameters()]
    layer = {f"layers.{n}." for n in range(shared)}
    expected = [name.startswith("embeddings.") or name[:9] in layer for name in names]
    assert same == expected
    assert [p.requires_grad for p in other.parameters()] == [not value for value in same]
    assert not any(p.requires_grad for p in tiny.parameters())
    assert other.frozen_layers == shared
    assert tiny.frozen_layers == 2


def test_a_whole_copy_shares_nothing(tiny: TextEncoder) -> None:
    tiny.requires_grad_(False)
    other = tiny.tunable_copy("all")
    theirs = {p.data_ptr() for p in tiny.parameters()}
    assert not any(p.data_ptr() in theirs for p in other.parameters())
    assert all(p.requires_grad for p in other.parameters())
    assert other.frozen_layers == -1
    assert not any(p.requires_grad for p in tiny.parameters())


def test_training_a_copy_leaves_the_original_as_it_was(tiny: TextEncoder) -> None:
    tiny.requires_grad_(False)
    before = tiny.fingerprint
    other = tiny.tunable_copy(1)
    assert other.fingerprint == before
    ids, mask = other.pad(other.tokenize(["piano night"]))
    other(ids, mask).sum().backward()
    torch.optim.SGD([p for p in other.parameters() if p.requires_grad], 0.1).step()
    assert other.fingerprint != before
    assert tiny.fingerprint == before


def test_too_many_layers_are_refused(tiny: TextEncoder) -> None:
    with pytest.raises(InputError, match="has 2 blocks, 3 cannot be fine-tuned"):
        tiny.tunable_copy(3)


def test_only_trained_layers_drop_out(tiny: TextEncoder) -> None:
    other = tiny.requires_grad_(False).tunable_copy(1).train()
    ids, mask = other.pad(other.tokenize(["piano night"]))
    assert torch.equal(other.lower(ids, mask, 1), other.lower(ids, mask, 1))
    assert not torch.equal(other(ids, mask), other(ids, mask))
    other.eval()
    assert torch.equal(other(ids, mask), other(ids, mask))


def test_a_fingerprint_is_that_of_the_content_not_of_the_place(tiny_bert: Path, tmp_path: Path) -> None:
    one = TextEncoder.load(TextConfig(source=str(tiny_bert)))
    (tmp_path / "moved").symlink_to(tiny_bert)
    assert TextEncoder.load(TextConfig(source=str(tmp_path / "moved"))).fingerprint == one.fingerprint
    for other in (TextConfig(source=str(tiny_bert), pooling="cls"), TextConfig(source=str(tiny_bert), prefix="q ")):
        assert TextEncoder.load(other).fingerprint != one.fingerprint


def test_a_language_that_the_vocabulary_lacks_is_warned_of(encoder: TextEncoder) -> None:
    with pytest.warns(UserWarning, match="probably in a language it was not made for"):
        encoder.tokenize(["霸王别姬", "饮食男女", "a film"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.tokenize(["Amélie", "Das Boot", "El Mariachi"])


def test_use_leaves_the_fingerprint_alone(tiny: TextEncoder) -> None:
    """A tokenizer remembers how the last call cut and padded; vectors do not depend on that."""
    before = tiny.fingerprint
    embed_texts(tiny, ["piano night"])
    assert tiny.fingerprint == before
