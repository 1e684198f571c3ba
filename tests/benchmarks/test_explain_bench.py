"""The bench of reasons: what it removes, and how it is counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.explain import NEXT, QUICK, WORDS, World, ask, completeness_row, delete, deletion_row, differences
from serving.retriever import Retriever


def test_what_is_removed_is_what_the_reason_names(tiny_run: Any) -> None:
    model, index, catalog, log = tiny_run.model, tiny_run.index, tiny_run.catalog, tiny_run.log
    shop = Retriever(model, index, catalog, log)
    asked, seconds, off = ask(shop, range(1, 7))
    assert off < 1e-4
    assert {name: spent.shape for name, spent in seconds.items()} == dict.fromkeys((QUICK, NEXT, WORDS), (6, 2))
    dropped = delete(World(model, index, catalog, log), asked, 1)
    for (_, reason), named in zip(asked, dropped.named, strict=True):
        without = next(one for one in reason.counterfactuals if one.item == reason.past[0].item)
        assert named == pytest.approx(reason.score - without.score, abs=1e-4)
    metrics = deletion_row("1 past items", dropped)["metrics"]
    assert metrics["deletion"][0] == pytest.approx(dropped.named.mean(), abs=1e-5)
    by = {entry["theirs"]: entry["difference"][0] for entry in differences({"1 past items": dropped})}
    assert by["random"] == pytest.approx((dropped.named - dropped.random).mean(), abs=1e-5)
    assert by["most similar"] == pytest.approx((dropped.named - dropped.similar).mean(), abs=1e-5)
    assert np.mean(dropped.named) > np.mean(dropped.random)
    sums = completeness_row([one.reason for one in asked], off)["metrics"]
    assert sums["sum off, at most"] < 1e-4
    shares = [abs(one.reason.remainder / one.reason.score) for one in asked]
    assert sums["remainder, median share"] == pytest.approx(np.median(shares), abs=1e-4)
