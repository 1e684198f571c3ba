"""The questions about the generated shop, what is read off ranked lists, and what the record says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import studio_jobs
from benchmarks.record import Record
from benchmarks.studio import fill
from benchmarks.studio_jobs import (
    BASELINES,
    COLLABORATIVE,
    FLOOR,
    FROZEN,
    ORACLE,
    SUBSETS,
    WHOLE,
    WITH_IDS,
    Job,
    Outcome,
    content_recipe,
    run_job,
)
from benchmarks.studio_lists import examine, examine_oracle, only, quotient, recall_among
from indexing.build import build_index
from towers.history import Histories
from training.ranker import IndexRanker
from training.trainer import fit
from twotower.studio.exam import METRIC, Exam, make_exam
from twotower.studio.oracle import recall
from twotower.studio.settings import StudioSettings
from twotower.studio.shop import Shop, make_shop

TRACKS, COLD = 160, 40
SETTINGS = StudioSettings(tracks=TRACKS, listeners=120, new_tracks=0.25, choices=(8, 16), seconds=1, side=32)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return make_shop(tmp_path_factory.mktemp("studio") / "shop", seed=3, settings=SETTINGS, progress=False)


@pytest.fixture(scope="module")
def exam(shop: Shop) -> Exam:
    return make_exam(shop)


def test_everybody_is_asked_about_their_own_choices(shop: Shop, exam: Exam) -> None:
    of_new, users = shop.new_tracks.to_pydict(), shop.users.to_list()
    chosen: dict[str, list[str]] = {}
    for user, item in zip(of_new["user_id"], of_new["item_id"], strict=True):
        chosen.setdefault(user, []).append(item)
    for person in (0, 50, 107):
        user = users[exam.people[exam.of_new.people[person]]]
        own = [event for event in shop.log.table.to_pylist() if event["user_id"] == user]
        past = exam.of_new.histories.take([person]).items
        assert [shop.catalog.ids[row] for row in past] == [one["item_id"] for one in own if one["split"] != "test"]
        assert [shop.catalog.ids[row] for row in exam.of_new.targets.take([person]).items] == chosen[user]
        assert [shop.catalog.ids[row] for row in exam.split.test.targets.take([person]).items] == [own[-1]["item_id"]]
    assert (exam.of_new.targets.lengths == 2).all()
    strange = [
        event for event in shop.new_listeners.table.to_pylist() if event["user_id"] == users[exam.strange_people[5]]
    ]
    for words, part in (("history", exam.strangers.histories), ("test", exam.strangers.targets)):
        rows = part.take([5]).items
        assert [shop.catalog.ids[row] for row in rows] == [one["item_id"] for one in strange if one["split"] == words]


def test_the_oracle_finds_what_the_shop_says_it_finds(shop: Shop, exam: Exam) -> None:
    found = examine_oracle(exam)
    utilities, test = shop.oracle.utilities()[exam.people], exam.split.test
    seen, targets = np.zeros((2, len(test), TRACKS), bool)
    seen[test.histories.people, test.histories.items] = True
    targets[test.targets.people, test.targets.items] = True
    assert found["known"].mean() == pytest.approx(recall(utilities[test.people], seen, targets))
    new = np.zeros_like(targets)
    new[exam.of_new.targets.people, exam.of_new.targets.items] = True
    among_new = recall(utilities[test.people], np.tile(~shop.cold, (len(test), 1)), new)
    assert found[f"new-tracks-among-{COLD}"].mean() == pytest.approx(among_new)
    assert found["new-tracks"].mean() == pytest.approx(recall(utilities[test.people], seen, new))
    assert among_new > found["new-tracks"].mean() > 0.2
    assert len(found["new-listeners"]) == 12


def test_a_list_of_some_items_keeps_their_order() -> None:
    lists = np.array([[3, 0, 2, 1], [1, 2, -1, -1]])
    mask = np.array([True, False, True, True])
    assert only(lists, mask).tolist() == [[3, 0, 2, -1], [2, -1, -1, -1]]


def test_recall_among_some_is_the_mean_over_draws() -> None:
    rng = np.random.default_rng(0)
    lists = np.stack([rng.permutation(100) for _ in range(4)])
    lists[:, 90:] = -1
    places = np.array([0, 25, 45, 89])
    targets = Histories.of(lists[np.arange(4), places][:, None].tolist())
    expected = []
    for place in places:
        others = np.delete(np.arange(90), place)
        draws = [rng.choice(others, 39, replace=False) for _ in range(4000)]
        expected.append(np.mean([(drawn < place).sum() < 20 for drawn in draws]))
    found = recall_among(lists, targets, 40)
    assert found == pytest.approx(expected, abs=0.03)
    assert found[[0, 3]].tolist() == [1.0, 0.0]
    assert 0.1 < found[2] < found[1] < 1


def test_a_quotient_has_the_interval_of_both() -> None:
    rng = np.random.default_rng(0)
    whole = rng.random(3000)
    part = 0.5 * whole + rng.normal(0, 0.05, 3000)
    value, low, high = quotient(part, whole)
    assert value == pytest.approx(part.mean() / whole.mean())
    deviation = 0.05 / np.sqrt(3000) / whole.mean()  # the whole varies with the part and costs nothing
    assert (high - low) / 2 == pytest.approx(1.96 * deviation, rel=0.1)


def test_a_subset_reads_its_parts_and_nothing_else() -> None:
    recipe = content_recipe(("image",), 7)
    assert (recipe.item.text, recipe.item.ids, recipe.user.text, recipe.audio) == (False, False, None, None)
    assert "image" not in recipe.model_fields_set  # by default, as the catalog has covers
    assert recipe.train.seed == 7
    assert set(SUBSETS.values()) == {
        ("text",),
        ("image",),
        ("audio",),
        ("text", "image"),
        ("text", "audio"),
        ("image", "audio"),
        ("text", "image", "audio"),
    }


def test_probes_stand_between_popularity_and_the_oracle(shop: Shop) -> None:
    outcome = run_job(Job(BASELINES, 3, shop.folder))
    known, new, among = (
        {name: found[split].mean() for name, found in outcome.found.items()}
        for split in ("known", "new-tracks", f"new-tracks-among-{COLD}")
    )
    assert known[ORACLE] > known["ease"] + 0.1 > known["most-popular"] + 0.3
    assert new[ORACLE] > new[FLOOR] + 0.3 > new["most-popular"] + 0.5
    assert new["most-popular"] == 0  # nobody has met them
    assert among["most-popular"] == pytest.approx(20 / COLD, abs=0.1)
    assert among[FLOOR] > among["most-popular"] + 0.05
    assert outcome.notes["ease"]["chosen"] in [{"regularisation": value} for value in (50, 100, 200, 400, 800)]


def test_a_job_trains_by_its_recipe_on_the_split(shop: Shop, exam: Exam, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"epochs": 2, "evaluate_every": 2, "batch_people": 54}.items():
        monkeypatch.setitem(studio_jobs.TRAIN, name, value)
    outcome = run_job(Job("twotower text", 3, shop.folder))
    recipe, split = content_recipe(("text",), 3), exam.split
    assert split.refit is split.train
    model, report = fit(shop.catalog, split.train, split.validation, recipe, progress=False)
    assert (model.item.id, model.user.text, list(model.item.contents)) == (None, None, ["text"])
    index = build_index(model, shop.catalog, progress=False)
    expected = examine(exam, IndexRanker(model, index, shop.catalog, log=split.train))
    found = outcome.found["twotower text"]
    assert {name: values.tolist() for name, values in found.items()} == {
        name: values.tolist() for name, values in expected.items()
    }
    assert outcome.notes["epochs"][0]["recall@20"] == report.epochs[0]["recall@20"]
    assert found["new-tracks"].mean() < found[f"new-tracks-among-{COLD}"].mean()


def outcomes(folder: Path) -> list[Outcome]:
    """Made up: each part adds a tenth, the oracle finds 0.8, new tracks are found half as often."""
    people = np.arange(400) / 400
    values = {name: 0.1 * len(parts) for name, parts in SUBSETS.items()}
    values |= {
        WITH_IDS: 0.5,
        ORACLE: 0.8,
        "most-popular": 0.0,
        FLOOR: 0.15,
        FROZEN: 0.2,
        **dict.fromkeys(COLLABORATIVE, 0.4),
    }
    found = []
    for name, value in values.items():
        known, new = (people < value - 1e-9).astype(float), (people < value / 2 - 1e-9).astype(float)
        lists = {"known": known, "new-tracks": new, "known-among-9": known, "new-tracks-among-9": new}
        notes = {"epochs": [{"epoch": 5, "ndcg@20": 0.3, METRIC: 0.5}, {"epoch": 10, "ndcg@20": 0.2, METRIC: 0.6}]}
        found.append(Outcome(Job(name, 4, folder), {name: {**lists, "new-listeners": known}}, notes))
    for name, value in {"mean": 0.1, "attention": 0.4}.items():
        notes = {"epochs": [{"epoch": 5, "ndcg@20": value, METRIC: 0.5}]}
        found.append(Outcome(Job(name, 4, folder), {}, notes))
    return found


def test_the_record_says_what_was_asked_for(tmp_path: Path) -> None:
    record = Record("studio")
    fill(record, outcomes(tmp_path), [4])
    rows = {(row["method"], row["split"]): row["metrics"][METRIC] for row in record.rows}
    assert rows["twotower text+audio", "known"][0] == pytest.approx(0.2)
    assert rows[WHOLE, "new-tracks"][0] == pytest.approx(0.15)
    assert {row["seed"] for row in record.rows} == {4}
    targets = record.notes["targets"]
    assert targets["each part raises recall"] == "9 of 9 steps, interval above 0"
    assert targets["share of the ceiling"]["seeds"][0][0] == pytest.approx(0.375)
    assert targets["new tracks to known ones"]["seeds"][0][0] == pytest.approx(0.5)
    assert targets["new tracks to known ones, as shares of the ceiling"]["seeds"] == [pytest.approx(1.0)]
    assert record.notes["fusion"]["chosen"] == "attention"
    assert record.notes["fusion"]["tried"]["gated"] == {"epoch": 5, "ndcg@20": 0.3, METRIC: 0.5}
    steps = {(one["ours"], one["theirs"]): one["difference"][0] for one in record.notes["differences"]}
    assert steps["twotower text+image", "twotower image"] == pytest.approx(0.1)
    assert ("twotower text+image", "twotower audio") not in steps
    assert steps[WHOLE, FLOOR] == pytest.approx(0.15)
