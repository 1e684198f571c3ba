"""Each row of the ablation differs from the whole in the part that it is named after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from benchmarks import ablation, kept
from benchmarks.ablation import CENTRELESS, KNOWN, NO_LATE, OTHERWISE, SAMPLES, SETS, WHOLE, Job, Set, run_part
from towers.catalog import Catalog
from towers.history import Histories
from towers.interactions import Interactions
from towers.item import ItemConfig, ItemTower
from training import loop


@pytest.mark.parametrize("chosen", SETS)
def test_every_row_is_a_recipe_of_its_own_or_does_something_otherwise(chosen: str) -> None:
    parts, whole = SETS[chosen].parts, SETS[chosen].whole
    recipes = {name: SETS[chosen].recipe(name).model_dump_json() for name in parts}
    as_shipped = {name for name, recipe in recipes.items() if recipe == recipes[whole]}
    assert as_shipped == {whole, *(parts.keys() & {NO_LATE, *OTHERWISE})}
    assert len(set(recipes.values())) == len(recipes) - len(as_shipped) + 1


def test_a_row_of_negatives_changes_one_setting_of_the_sampled_softmax() -> None:
    chosen = SETS["negatives"]
    whole = chosen.recipe(chosen.whole).train.model_dump()
    for name in set(SAMPLES) - {chosen.whole, "full softmax"}:
        train = chosen.recipe(name).train.model_dump()
        changed = {key: train[key] for key in whole if train[key] != whole[key]}
        assert len(changed) == 1
        assert changed.items() <= SAMPLES[name]["train"].items()


def test_films_differ_in_what_their_row_says() -> None:
    chosen = SETS["films"]
    whole, without = chosen.recipe(WHOLE), chosen.recipe("no item text")
    assert whole.image is not None
    assert whole.audio is not None
    assert whole.user.text is None
    assert not without.item.text
    assert without.item.template == whole.item.template
    assert chosen.recipe("no modality dropout").item.content_dropout == 0 < whole.item.content_dropout


def test_goods_are_those_of_a_fourth_of_the_people(data_dir: Path) -> None:
    chosen = SETS["goods"]
    catalog, log = chosen.read(data_dir)
    split = chosen.split(catalog, log, chosen.protocol)
    assert len(catalog) == 12_101
    assert len(split.test) == round(22_363 / 4)
    assert split.refit is split.train
    assert chosen.recipe(WHOLE).train.epochs == 12


def test_known_items_may_be_negatives() -> None:
    people, past = np.array([0]), Histories.of([[1, 2]])
    with OTHERWISE[KNOWN]():
        known = loop.Known(past, 4)
    assert not known.of_catalog(people).any()
    assert not known.of(people, torch.arange(4)).any()
    assert loop.Known(past, 4).of_catalog(people).tolist() == [[False, True, True, False]]


def test_contents_may_keep_their_mean() -> None:
    def centre() -> torch.Tensor:
        tower = ItemTower(config=ItemConfig(), contents={"text": 3}, ids=0)
        tower.text.fit_centre(torch.eye(3) + 1, torch.ones(3, dtype=torch.bool))
        return tower.text.centre

    with OTHERWISE[CENTRELESS]():
        assert not centre().any()
    assert centre().all()


def films(count: int) -> tuple[Catalog, Interactions]:
    """Of which people have met the first 30."""
    table = pl.DataFrame({"item_id": range(count), "title": [f"Film {n}" for n in range(count)]})
    rows = [(who, (7 * who + 2 * n) % 30, 60 * n) for who in range(12) for n in range(8)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return Catalog.read(table), Interactions.read(events)


def small(tiny_bert: Path) -> dict[str, Any]:
    return {
        "text": {"source": str(tiny_bert)},
        "item": {"dimension": 16, "hidden": 32, "template": "{title}"},
        "user": {"text": False},
        "train": {"epochs": 2, "evaluate_every": 1},
    }


@pytest.mark.parametrize("name", [WHOLE, CENTRELESS])
def test_a_row_is_trained_kept_and_asked(
    name: str, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path))
    chosen = Set("ablation", {name: {}}, name, "leave-one-out", small(tiny_bert), read=lambda _: films(30))
    monkeypatch.setitem(SETS, "people", chosen)
    job = Job("people", name, None, tmp_path / "out")
    first = run_part(job)
    assert list(first.results) == [name]
    assert len(first.results[name].people) == 12
    monkeypatch.setattr(kept, "fit_split", None)  # calling it would be a TypeError
    assert run_part(job).results[name].metrics == first.results[name].metrics


def test_what_lifting_new_items_costs_is_a_row_of_its_own(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 films that nobody has met stand above all others where they are lifted, and then nobody finds the target."""
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path))

    def lifted(*arguments: Any) -> Any:
        model, report = kept.trained(*arguments)
        model.level.fill_(1000)
        return model, report

    monkeypatch.setattr(ablation, "trained", lifted)
    values = small(tiny_bert)
    chosen = Set("ablation", {WHOLE: {}}, WHOLE, "leave-one-out", values, read=lambda _: films(70), lifts=False)
    monkeypatch.setitem(SETS, "people", chosen)
    found = run_part(Job("people", WHOLE, None, tmp_path / "out")).results
    assert list(found) == [ablation.LIFTED, WHOLE]
    assert found[ablation.LIFTED].metrics["recall@20"][0] == 0 < found[WHOLE].metrics["recall@20"][0]  # type: ignore[index]
