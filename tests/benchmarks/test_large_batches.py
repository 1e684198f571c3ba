"""The benchmark of large batches, with a tiny reader."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import large_batches
from benchmarks.large_batches import Case, run_case
from towers.text import TextConfig, TextEncoder


def test_a_step_trains_the_reader_part_by_part(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    whole_step = large_batches._step

    def watched(reader: torch.nn.Module, *rest: object) -> None:
        with reader.register_forward_pre_hook(lambda _, given: seen.append(len(given[0]))):
            whole_step(reader, *rest)  # type: ignore[arg-type]
        assert all(weight.grad is None or weight.grad.any() for weight in reader.project.parameters())

    encoder = TextEncoder.load(TextConfig(source=str(tiny_bert)))
    monkeypatch.setattr(TextEncoder, "load", lambda _: encoder)
    monkeypatch.setattr(large_batches, "_step", watched)
    monkeypatch.setattr(large_batches, "TOKENS", 8)
    cost = run_case(Case(6, 4))
    assert seen[:4] == [4, 2, 2, 4]  # there, and again on the way back
    assert cost.seconds > 0
    assert cost.peak >= cost.before > 0


def test_names() -> None:
    assert [case.name for case in large_batches.CASES] == ["whole", "whole", "parts of 128", "parts of 128"]
