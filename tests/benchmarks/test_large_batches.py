"""The benchmark of large batches, with a tiny reader."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import large_batches
from benchmarks.large_batches import Case, run_case, started_run
from towers.text import TextConfig, TextEncoder
from towers.text_reader import TextReader


def test_a_step_trains_the_reader_part_by_part(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = TextEncoder.load(TextConfig(source=str(tiny_bert)))
    monkeypatch.setattr(TextEncoder, "load", lambda _, weights: encoder)
    monkeypatch.setattr(large_batches, "ITEMS", 40)
    whole, seen = TextReader.forward, []

    def watched(reader: TextReader, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(ids.shape))
        return whole(reader, ids, mask)

    monkeypatch.setattr(TextReader, "forward", watched)
    run = started_run(Case(6, 4))
    assert run.model.user.text is not None
    before = run.model.user.text.project.state_dict()["layers.0.weight"].clone()
    run._step(run.feed.order())
    assert seen == [(4, 44), (2, 44), (2, 44), (4, 44)]  # there, and again on the way back
    assert not run.model.user.text.project.state_dict()["layers.0.weight"].equal(before)
    cost = run_case(Case(6, 4))
    assert cost.seconds > 0
    assert cost.peak >= cost.before > 0


def test_names() -> None:
    assert [case.name for case in large_batches.CASES] == ["whole", "whole", "parts of 128", "parts of 128"]
