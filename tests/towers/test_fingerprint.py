"""An encoder's fingerprint: hashed once for the same weights, and never that of weights that are no longer there."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from towers.encoders import contract
from towers.text import TextConfig, TextEncoder


@pytest.fixture
def encoder(tiny_bert: Path) -> TextEncoder:
    return TextEncoder.load(TextConfig(source=str(tiny_bert)))


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that weights are hashed."""
    times: list[int] = []
    sha256 = hashlib.sha256

    def counted(*args: Any) -> Any:
        times.append(1)
        return sha256(*args)

    monkeypatch.setattr(contract.hashlib, "sha256", counted)
    return times


def by_hand(encoder: TextEncoder) -> str:
    digest = hashlib.sha256(encoder.reading.encode())
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode() + value.detach().numpy().tobytes())
    return digest.hexdigest()


def weight_of(encoder: TextEncoder) -> nn.Parameter:
    return encoder.layers[0].attention.self.query.weight


def in_place(encoder: TextEncoder) -> None:
    with torch.no_grad():
        weight_of(encoder).add_(1e-3)


def one_bit(encoder: TextEncoder) -> None:
    """As numpy writes, of which torch knows nothing: the lowest bit of one weight."""
    weight_of(encoder).detach().numpy().view("int32")[3, 5] ^= 1


def past_the_counter(encoder: TextEncoder) -> None:
    """As peft merges low-rank additions."""
    weight_of(encoder).data += 1e-3


def two_exchanged(encoder: TextEncoder) -> None:
    """The sum of the bits stays."""
    with torch.no_grad():
        weight_of(encoder)[[0, 1]] = weight_of(encoder)[[1, 0]]


def a_step(encoder: TextEncoder) -> None:
    optimizer = torch.optim.AdamW([weight_of(encoder).requires_grad_(True)], lr=1e-3)
    encoder.encode([[5, 6], [7]]).square().sum().backward()
    optimizer.step()


def another_parameter(encoder: TextEncoder) -> None:
    encoder.layers[0].attention.self.query.weight = nn.Parameter(torch.zeros_like(weight_of(encoder)))


def loaded(encoder: TextEncoder) -> None:
    encoder.load_state_dict({name: value + 1 for name, value in encoder.state_dict().items()})


def another_reading(encoder: TextEncoder) -> None:
    encoder.config = encoder.config.model_copy(update={"prefix": "query: "})


CHANGES = [in_place, one_bit, past_the_counter, two_exchanged, a_step, another_parameter, loaded, another_reading]


@pytest.mark.parametrize("change", CHANGES)
def test_weights_that_changed_have_another_fingerprint(
    encoder: TextEncoder, change: Callable[[TextEncoder], None]
) -> None:
    before = encoder.fingerprint
    assert before == by_hand(encoder)
    change(encoder)
    assert encoder.fingerprint == by_hand(encoder)
    assert encoder.fingerprint != before


def test_a_step_in_inference_mode_is_seen(encoder: TextEncoder) -> None:
    with torch.inference_mode():
        other = copy.deepcopy(encoder)  # of tensors that count no writes
        before = other.fingerprint
        weight_of(other).mul_(2)
        assert before == encoder.fingerprint
        assert other.fingerprint == by_hand(other) != before


def test_the_same_weights_are_hashed_once(encoder: TextEncoder, hashed: list[int]) -> None:
    first = encoder.fingerprint
    assert len(hashed) == 1
    assert encoder.eval().requires_grad_(False).fingerprint == first
    assert len(hashed) == 1
    in_place(encoder)
    assert encoder.fingerprint != first
    assert len(hashed) == 2


def test_a_copy_that_is_tuned_has_its_own(encoder: TextEncoder) -> None:
    before = encoder.fingerprint
    upper = encoder.tunable_copy(1)
    assert upper.fingerprint == before
    with torch.no_grad():
        upper.layers[-1].output.dense.weight.mul_(2)
    assert upper.fingerprint == by_hand(upper) != before
    assert encoder.fingerprint == before


def test_odd_lengths_and_other_types_count(encoder: TextEncoder) -> None:
    def trace(value: Tensor) -> tuple[int, int, int]:
        return contract._trace(value)

    three = torch.tensor([1, 2, 3], dtype=torch.uint8)
    assert trace(three)[1:] == (3, 6)
    assert trace(torch.tensor([1, 0], dtype=torch.int32))[1:] == (8, 1)
    assert trace(torch.tensor([0, 1], dtype=torch.int32))[1:] == (8, 1 << 32)
    assert trace(torch.ones(4, dtype=torch.bfloat16)[1:])[1:] == (6, 3 * (0x3F + 0x80))
    assert trace(torch.tensor(1.5))[1:] == (4, 0xC0 + 0x3F)
    assert trace(torch.empty(0))[1:] == (0, 0)
