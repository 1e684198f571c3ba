"""Whole training runs on a log with a rule in it: after item n of a group comes item n + 1."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from indexing.index import ItemIndex
from towers.artefact import MANIFEST, read_json
from towers.catalog import Catalog
from towers.errors import InputError, TwoTowerError
from towers.history import Histories
from towers.interactions import Interactions
from towers.model import TwoTower
from towers.text import TextEncoder
from training import failed_step
from training.checkpoint import checkpoint_folder
from training.config import Recipe
from training.loop import Run
from training.measuring.evaluate import evaluate, ranked_rows
from training.measuring.popularity import MostPopular
from training.measuring.protocols import leave_one_out
from training.measuring.splits import Questions
from training.mining import HardNegatives
from training.negatives import Negatives
from training.objective import Objective
from training.optimizer import parameter_groups, rate_at
from training.ranker import IndexRanker
from training.report import Report
from training.state import Place
from training.tasks import Click
from training.trainer import fit, refit, train, without_targets
from training.untrained import new_model

GROUPS, SIZE, PEOPLE, STEPS = ("piano", "violin", "engine", "motor", "rain"), 8, 80, 6
SEQUENCE = {"dropout": 0.0, "input_dropout": 0.0}  # a rule without exceptions
TEXT = {"tune": 1, "dropout": 0.0}


@dataclass
class World:
    catalog: Catalog
    log: Interactions
    tiny_bert: Path

    def recipe(self, user: dict[str, Any] | None = None, **settings: Any) -> Recipe:
        quick = {"epochs": 16, "text_epochs": 16, "evaluate_every": 8, "batch_people": 16, "sentences": 16}
        rates = {"rate": 1e-2, "rate_pretrained": 3e-3}
        train = {**quick, **rates, **settings}
        train |= {name: min(train[name], train["epochs"]) for name in ("text_epochs", "evaluate_every")}
        return Recipe.read(
            {
                "text": {"source": str(self.tiny_bert)},
                "item": {"dimension": 16, "hidden": 32},
                "user": user or {"sequence": SEQUENCE, "text": TEXT},
                "train": train,
            }
        )


@pytest.fixture
def world(tiny_bert: Path, own_cache: Path) -> World:
    rng = np.random.default_rng(0)
    titles = [f"{name} {letter}" for name in GROUPS for letter in "abcdefgh"]
    catalog = Catalog.read(pl.DataFrame({"item_id": [f"i{n}" for n in range(len(titles))], "title": titles}))
    group, start = rng.integers(len(GROUPS), size=(PEOPLE, 1)), rng.integers(SIZE, size=(PEOPLE, 1))
    items = group * SIZE + (start + np.arange(STEPS)) % SIZE
    log = {
        "user_id": np.repeat(np.arange(PEOPLE), STEPS),
        "item_id": [f"i{n}" for n in items.reshape(-1)],
        "timestamp": np.tile(np.arange(STEPS) * 100.0, PEOPLE),
    }
    return World(catalog, Interactions.read(pl.DataFrame(log)), tiny_bert)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trained(world: World, recipe: Recipe, out: Path | None = None) -> tuple[TwoTower, Report, Questions]:
    split = leave_one_out(world.log.histories(world.catalog)[1])
    model, report = fit(world.catalog, split.train, split.validation, recipe, out=out, progress=False)
    return model, report, split.test


def ranker(world: World, model: TwoTower) -> IndexRanker:
    index = ItemIndex.from_arrays(world.catalog.ids, model.embed_items(world.catalog), kind="Flat", space=model.space)
    return IndexRanker(model, index, world.catalog)


def first_right(world: World, model: TwoTower, questions: Questions) -> float:
    """Share of people whose next item comes first."""
    rows = ranked_rows(ranker(world, model), questions, 5)
    return float((rows[:, 0] == questions.targets.items).mean())


def test_both_readers_learn_the_rule(world: World, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "model"
    model, report, test = trained(world, world.recipe(), out)
    assert first_right(world, model, test) > 0.9
    past = leave_one_out(world.log.histories(world.catalog)[1]).train
    popular = ranked_rows(MostPopular().fit(past, len(world.catalog)), test, 5)
    assert (popular[:, 0] == test.targets.items).mean() < 0.15

    assert [entry["epoch"] for entry in report.epochs] == [8, 16]
    for name in ("loss", "sequence", "text", "fused", "sentence"):
        assert report.epochs[1][name] < report.epochs[0][name]
    entry = report.epochs[-1]
    parts = entry["sequence"] + entry["text"] + entry["fused"] + 0.2 * entry["sentence"]
    assert entry["loss"] == pytest.approx(parts, abs=1e-4)
    assert report.rating_error is None
    assert report.reranking is None
    assert report.fusion is not None

    # what was saved is what was returned, and TensorBoard has its folder beside it
    loaded = TwoTower.load(out)
    assert loaded.fingerprint == model.fingerprint
    manifest = json.loads((out / MANIFEST).read_text())
    assert Recipe.read(manifest["recipe"]) == world.recipe()
    assert manifest["training"]["best_epochs"] == report.best_epochs
    assert list(out.parent.glob("tensorboard/model/events.out.tfevents.*"))
    assert not list(out.rglob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("user", "validated", "kept"), [({"text": False}, [1, 2, 3, 4], [1, 2, 3, 4]), (None, [1, 2, 4], [4])]
)
def test_the_model_is_the_one_that_validated_best(
    world: World, user: dict[str, Any] | None, validated: list[int], kept: list[int]
) -> None:
    """The text reader joins the best of the first phase, and the end of its own schedule counts."""
    split = leave_one_out(world.log.histories(world.catalog)[1])
    recipe = world.recipe(user or {"sequence": SEQUENCE}, epochs=4, text_epochs=2, evaluate_every=1)
    model, report, _ = trained(world, recipe)
    assert [entry["epoch"] for entry in report.epochs] == validated
    reached = {entry["epoch"]: entry["ndcg@20"] for entry in report.epochs if entry["epoch"] in kept}
    assert reached[report.best_epoch] == max(reached.values())
    counts = np.bincount(split.train.items, minlength=len(world.catalog))
    again = evaluate(ranker(world, model), split.validation, counts=counts, ks=(20,), depth=20).metrics["ndcg@20"]
    chosen = max(report.fusion["ndcg@20"].values()) if report.fusion else max(reached.values())
    assert again[0] == pytest.approx(chosen, abs=1e-6)  # type: ignore[index]


def test_the_best_weights_are_kept_and_patience_ends_the_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def judge(run: Run, _: Questions) -> dict[str, float]:
        """The second epoch is the best."""
        seen.append(run.model.item.text.state_dict()["layers.0.weight"].clone())
        return {"recall@20": 0.0, "ndcg@20": (0.1, 0.5, 0.4, 0.5, 0.3, 0.2)[len(seen) - 1]}

    monkeypatch.setattr(Run, "validate", judge)
    model, report, _ = trained(world, world.recipe({"text": False}, epochs=6, evaluate_every=1, patience=3))
    assert len(seen) == 5
    assert report.best_epoch == 2
    kept = model.item.text.state_dict()["layers.0.weight"]
    assert [torch.equal(kept, weights) for weights in seen] == [False, True, False, False, False]


def test_a_refit_does_what_was_chosen(world: World) -> None:
    """On the same events it ends with the same weights, with no validation on the way."""
    split = leave_one_out(world.log.histories(world.catalog)[1])
    recipe = world.recipe({"text": False}, epochs=8, evaluate_every=1, patience=1, rate=3e-1, warmup=0.0)
    model, chosen, _ = trained(world, recipe)
    assert 1 <= chosen.best_epoch < len(chosen.epochs)  # later epochs were tried and given up
    again = refit(world.catalog, split.train, recipe, chosen)
    assert again.fingerprint == model.fingerprint


def test_a_refit_keeps_the_gate(world: World) -> None:
    split = leave_one_out(world.log.histories(world.catalog)[1])
    recipe = world.recipe({"sequence": SEQUENCE}, epochs=4, text_epochs=2, evaluate_every=1)
    _, chosen, _ = trained(world, recipe)
    assert chosen.fusion is not None
    for gate in (0.05, 0.6):
        again = refit(world.catalog, split.train, recipe, replace(chosen, fusion={**chosen.fusion, "gate": gate}))
        assert float(again.user.fusion.gate("text").detach()) == pytest.approx(gate)
    assert again.user.reads_text


def test_an_early_stop_of_the_first_phase_moves_the_schedule_on(world: World) -> None:
    """The first epoch is the best of the first phase if the rate is far too high; then the text reader joins."""
    recipe = world.recipe(
        {"sequence": SEQUENCE}, epochs=12, text_epochs=2, evaluate_every=1, patience=1, rate=3.0, warmup=0.0
    )
    _, report, _ = trained(world, recipe)
    epochs = [entry["epoch"] for entry in report.epochs]
    assert epochs[-1] == report.best_epoch == 12
    assert len(epochs) < 11
    assert "text" in report.epochs[-1]
    assert "text" not in report.epochs[-2]


def test_the_first_step_after_an_early_stop_has_the_rate_of_its_place(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five steps an epoch: the readers join at step 50 of 60, wherever the first phase ended."""
    step, rates = Run._step, []

    def spy(run: Run, people: np.ndarray) -> dict[str, float]:
        if run._reads:
            rates.append(sorted({round(group["lr"], 9) for group in run.optimizer.param_groups}))
        return step(run, people)

    monkeypatch.setattr(Run, "_step", spy)
    monkeypatch.setattr(Run, "validate", lambda *_: {"recall@20": 0.0, "ndcg@20": 0.0})
    trained(
        world,
        world.recipe({"sequence": SEQUENCE, "text": TEXT}, epochs=12, text_epochs=2, evaluate_every=1, patience=1),
    )
    assert len(rates) == 10
    high, text, pretrained = 1e-2 * rate_at(50, 60, 0.1), 1e-2 * rate_at(0, 10, 0.1), 3e-3 * rate_at(0, 10, 0.1)
    assert rates[0] == pytest.approx(sorted({high, text, pretrained}), abs=1e-8)


def test_losses_are_means_over_the_steps_that_have_them() -> None:
    place = Place()
    for losses in ({"loss": 1.0}, {"loss": 3.0, "rating": 0.5}, {"loss": 5.0}):
        place.stepped(losses)
    assert place.losses == {"loss": 3.0, "rating": 0.5}
    assert place.done == 3


def test_a_sampled_softmax_learns_it_too(world: World) -> None:
    """Sixteen uniform draws of forty items and the batch's own."""
    recipe = world.recipe({"sequence": SEQUENCE, "text": False}, softmax="sampled", uniform_negatives=16)
    model, _, test = trained(world, recipe)
    assert first_right(world, model, test) > 0.9


def test_the_text_reader_alone_learns_it(world: World) -> None:
    """It has to spell: letters tell the items of a group apart."""
    recipe = world.recipe({"sequence": False, "text": {"tune": "all", "dropout": 0.0}})
    model, report, test = trained(world, recipe)
    assert first_right(world, model, test) > 0.8
    assert "sequence" not in report.epochs[-1]


def test_the_item_sides_encoder_never_changes(world: World) -> None:
    recipe = world.recipe(epochs=1)
    model, _, _ = trained(world, recipe)
    fresh = TextEncoder.load(recipe.text)
    assert model.encoder.fingerprint == fresh.fingerprint
    assert model.user.text is not None
    assert model.user.text.encoder.fingerprint != fresh.fingerprint
    assert not model.training


def test_low_rank_additions_learn_from_histories(world: World) -> None:
    """Without sentences, so that nothing but the texts of histories moves them; all layers do, the word vectors not."""
    pytest.importorskip("peft", reason="needs the extra lora")
    text = {**TEXT, "tune": "lora"}
    model, _, _ = trained(world, world.recipe({"sequence": SEQUENCE, "text": text}, epochs=2, sentences=0))
    assert model.user.text is not None
    before, after = model.encoder.state_dict(), model.user.text.encoder.state_dict()
    assert set(after) == set(before)
    moved = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    matrices = ("attention.self.query", "attention.output.dense", "intermediate.dense", "output.dense")
    assert {f"layers.{n}.{name}.weight" for n in range(2) for name in matrices} <= moved
    assert all(name.startswith("layers.") for name in moved)


def test_a_seed_fixes_every_weight(world: World) -> None:
    recipes = [world.recipe({"text": {"tune": 1}}, epochs=1, seed=seed) for seed in (1, 1, 2)]
    one, two, other = (trained(world, recipe)[0].state_dict() for recipe in recipes)
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert not torch.equal(one["item.id.weight"], other["item.id.weight"])


def test_only_how_weights_compare_counts(world: World) -> None:
    recipe = world.recipe(epochs=1)
    _, past = world.log.histories(world.catalog)
    split = leave_one_out(past)

    def first(weights: np.ndarray | None) -> TwoTower:
        train = replace(split.train, weights=weights)
        return fit(world.catalog, train, split.validation, recipe, progress=False)[0]

    count = len(split.train.items)
    some = np.random.default_rng(0).integers(1, 5, count).astype(np.float32)
    assert first(None).fingerprint == first(np.full(count, 4.0)).fingerprint
    assert first(some).fingerprint == first(4 * some).fingerprint != first(None).fingerprint
    firsts = np.zeros(count)
    firsts[split.train.offsets[:-1]] = 3  # which nobody is ever asked for
    for none in (np.zeros(count), firsts):
        with pytest.raises(InputError, match="no training event that follows another has a weight above 0"):
            first(none)
    rest = np.where(firsts, 0, some)
    assert first(rest).fingerprint == first(np.maximum(rest, firsts)).fingerprint


def test_a_second_run_embeds_nothing_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(world, world.recipe({"text": False}, epochs=1))

    def never(*_: object) -> None:
        raise AssertionError("a text was embedded again")

    monkeypatch.setattr(TextEncoder, "encode", never)
    trained(world, world.recipe({"text": False}, epochs=1))


def test_a_loss_that_is_no_number_stops_the_run_with_a_sentence(world: World, tmp_path: Path) -> None:
    """Within the first minute there is no checkpoint to go on from, and none is spoken of."""
    with pytest.raises(TwoTowerError, match=r"the loss became (nan|inf) at step \d+, whose .*: lower train\.rate$"):
        trained(world, world.recipe({"text": False}, rate=1e25), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_gradient_that_is_no_number_stops_it_too(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the third step, whose people are then in a file."""
    forward, calls = Objective.forward, []

    def steep(self: Objective, *batch: Any) -> dict[str, torch.Tensor]:
        calls.append(batch[0].people)
        losses = forward(self, *batch)
        if len(calls) == 3:
            losses["loss"] = losses["loss"] + (0 * self.model.log_scale).sqrt()  # worth 0, but infinitely steep
        return losses

    monkeypatch.setattr(Objective, "forward", steep)
    with pytest.raises(TwoTowerError, match=r"the gradient became nan at step 2, whose .*: lower train\.rate"):
        trained(world, world.recipe({"text": False}, epochs=2), tmp_path / "model")
    assert len(calls) == 3
    kept = read_json(checkpoint_folder(tmp_path / "model") / "step-2.json")
    assert kept["rows of people"] == calls[2].tolist()
    past = leave_one_out(world.log.histories(world.catalog)[1]).train
    ids = world.catalog.ids
    assert kept["their items"] == [ids.take(past.take([person]).items) for person in calls[2]]
    tensors = load_file(checkpoint_folder(tmp_path / "model") / "step-2.safetensors")
    for row, person in enumerate(calls[2]):
        mask, items = tensors["mask"][row], past.take([person]).items
        assert tensors["items"][row, mask].tolist() == items[:-1].tolist()
        assert tensors["targets"][row, mask].tolist() == items[1:].tolist()


def test_what_went_wrong_once_is_no_harm(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss that is no number is named; started again, training ends with the weights of one that never stopped."""
    recipe = world.recipe({"text": False}, epochs=3, click_weight=1.0, weighting="uncertainty", checkpoint_seconds=0)
    whole, _, _ = trained(world, recipe, tmp_path / "whole")
    forward, calls = Click.forward, []

    def once(self: Click, *arguments: Any) -> torch.Tensor | None:
        calls.append(self)
        loss = forward(self, *arguments)
        return loss if loss is None or len(calls) != 9 else loss * torch.nan

    monkeypatch.setattr(Click, "forward", once)
    said = r"the loss became nan at step 8 \(sequence \d.*, click nan\), whose .*step-8.json and .*: lower train\.rate"
    with pytest.raises(TwoTowerError, match=said + "; the checkpoints before it are good, the same training goes on"):
        trained(world, recipe, tmp_path / "model")
    again, _, _ = trained(world, recipe, tmp_path / "model")
    assert len(calls) == 9 + 3 * 5 - 8
    assert again.fingerprint == whole.fingerprint
    assert (checkpoint_folder(tmp_path / "model") / "step-8.safetensors").exists()


def test_a_full_disk_does_not_hide_why_training_stopped(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(failed_step, "atomic_file", full)
    monkeypatch.setattr(Run, "_mean_over_processes", lambda *_: {"loss": float("nan")})
    message = (
        r"the loss became nan at step 0, whose .* could not be written down \(.*No space left.*\): lower train\.rate"
    )
    with pytest.raises(TwoTowerError, match=message):
        trained(world, world.recipe({"text": False}, epochs=1), tmp_path / "model")


def test_people_of_one_event_neither_train_nor_are_asked(world: World, tmp_path: Path) -> None:
    some = world.log.table.to_pylist()
    lonely = [{"user_id": 1000 + n, "item_id": f"i{n}", "timestamp": 5.0} for n in range(20)]
    log = Interactions.read(pl.DataFrame([*some[: 30 * STEPS], *lonely]))
    model = train(
        world.catalog, log, recipe=world.recipe({"text": False}, epochs=1), out=tmp_path / "model", progress=False
    )
    assert np.isfinite(model.embed_items(world.catalog)).all()
    assert TwoTower.load(tmp_path / "model").space == model.space


@pytest.mark.parametrize(
    ("events", "message"), [(1, "at least 2 events"), (2, "at least 2 events before the validation")]
)
def test_nobody_with_enough_events_is_refused(world: World, events: int, message: str) -> None:
    log = Interactions.read(
        pl.DataFrame([row for row in world.log.table.to_pylist() if row["timestamp"] < events * 100])
    )
    with pytest.raises(InputError, match=message):
        train(world.catalog, log, recipe=world.recipe({"text": False}), progress=False)


def test_a_path_is_no_catalog_and_no_log() -> None:
    catalog = Catalog.read(pl.DataFrame({"item_id": ["a"]}))
    with pytest.raises(InputError, match=r"expected a Catalog, got str; Catalog\.read makes one"):
        train("clean.csv", "log.csv")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"expected a Interactions, got str; Interactions\.read makes one"):
        train(catalog, "log.csv")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("index", "message"),
    [("HNSV32", "FAISS refuses an index of kind 'HNSV32'"), ("IVF400,Flat", "over 40 vectors of 16 dimensions")],
)
def test_an_index_that_cannot_be_built_is_refused_before_training(
    world: World, monkeypatch: pytest.MonkeyPatch, index: str, message: str
) -> None:
    monkeypatch.setattr(Run, "_step", None)  # calling it would be a TypeError
    recipe = world.recipe({"text": False}).model_copy(update={"index": index})
    with pytest.raises(InputError, match=message):
        trained(world, recipe)


def test_a_validation_that_asks_nobody_is_refused_before_training(world: World) -> None:
    split = leave_one_out(world.log.histories(world.catalog)[1])
    nobody = split.validation.take(np.empty(0, np.int64))
    with pytest.raises(InputError, match="validation needs a person whose last event is an item that is new to them"):
        fit(world.catalog, split.train, nobody, world.recipe(), progress=False)


def test_each_reader_has_the_negatives_of_its_own_targets(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one anchor a person, the text reader's only target is everybody's last event."""
    draw, shares = Negatives.draw, []

    def spy(negatives: Negatives, targets: torch.Tensor, people: int, generator: torch.Generator) -> Any:
        shares.append(negatives._share.numpy())
        return draw(negatives, targets, people, generator)

    monkeypatch.setattr(Negatives, "draw", spy)
    recipe = world.recipe({"sequence": SEQUENCE, "text": TEXT}, epochs=1, anchors=1, softmax="sampled")
    trained(world, recipe)
    past = leave_one_out(world.log.histories(world.catalog)[1]).train
    events = [past.items[past.offsets[n] : past.offsets[n + 1]].tolist() for n in range(PEOPLE)]
    later = [item for row in events for item in row[1:]]
    last = [row[-1] for row in events]
    of_all = [[some.count(n) / len(some) for n in range(len(world.catalog))] for some in (later, last)]
    np.testing.assert_allclose(shares, np.array(of_all * 5) * PEOPLE / (PEOPLE - 1))  # five steps


def test_every_epoch_sees_everybody_once_in_an_order_of_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    step, seen = Run._step, []
    monkeypatch.setattr(Run, "_step", lambda run, people: seen.append(people.tolist()) or step(run, people))
    trained(world, world.recipe({"text": False}, epochs=2, batch_people=30))
    assert [len(people) for people in seen] == [30, 30, 20] * 2
    first, second = (np.concatenate(epoch).tolist() for epoch in (seen[:3], seen[3:]))
    everybody = list(range(PEOPLE))
    assert sorted(first) == sorted(second) == everybody
    assert len({tuple(order) for order in (first, second, everybody)}) == 3


def test_content_alone(world: World) -> None:
    """Without own vectors there is nothing to look up, and the model still trains."""
    recipe = world.recipe({"text": False}, epochs=2)
    recipe = recipe.model_copy(update={"item": recipe.item.model_copy(update={"ids": False})})
    model, report, _ = trained(world, recipe)
    assert len(model.ids) == 0
    assert np.isfinite(report.epochs[-1]["loss"])


def test_items_need_events_for_a_vector_of_their_own(world: World) -> None:
    recipe = world.recipe()
    counts = np.zeros(len(world.catalog), np.int64)
    counts[[3, 5, 7]] = [2, 3, 9]
    model = new_model(world.catalog, counts, recipe)
    assert model.ids.to_list() == ["i5", "i7"]
    assert model.template == world.catalog.default_template()


def test_what_validation_asks_for_is_nowhere_in_training() -> None:
    everything = Histories.of([[1, 2, 1, 3], [3, 2], [1]])
    asked = Questions(np.array([0, 1]), Histories.of([[1, 2], [3]]), Histories.of([[3], [2]]))
    left = without_targets(everything, asked)
    assert left.items.tolist() == [1, 2, 1, 3, 1]
    assert left.lengths.tolist() == [3, 1, 1]


def test_every_trained_weight_is_in_one_group(world: World) -> None:
    recipe = world.recipe()
    model = new_model(world.catalog, np.full(len(world.catalog), 5), recipe)
    groups = parameter_groups(model, recipe.train)
    where = {id(p): group for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(where)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or name.startswith("rating."):
            assert id(parameter) not in where, name
            continue
        group = where[id(parameter)]
        pretrained = name.startswith("user.text.encoder.")
        assert group["lr"] == (recipe.train.rate_pretrained if pretrained else recipe.train.rate), name
        assert group["weight_decay"] == (recipe.train.weight_decay if parameter.ndim >= 2 else 0.0), name
    assert not model.encoder.embeddings.word_embeddings.weight.requires_grad


def test_progress_is_shown_on_standard_error(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    split = leave_one_out(world.log.histories(world.catalog)[1])
    fit(world.catalog, split.train, split.validation, world.recipe({"text": False}, epochs=1), progress=True)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "epoch 1/1" in shown.err


def test_it_is_learned_from_negatives_of_every_source(world: World) -> None:
    recipe = world.recipe(
        {"sequence": SEQUENCE, "text": False},
        uniform_negatives=4,
        popular_negatives=4,
        memory_negatives=60,
        hard_negatives=5,
        mine_every=3,
    )
    model, report, test = trained(world, recipe)
    assert first_right(world, model, test) > 0.9
    assert 0 < report.mining_seconds < report.seconds


def test_mined_are_the_nearest_of_exact_search_that_are_new_and_met(world: World) -> None:
    recipe = world.recipe({"sequence": SEQUENCE, "text": False}, epochs=1)
    model, _, _ = trained(world, recipe)
    past = leave_one_out(world.log.histories(world.catalog)[1]).train
    unmet = torch.zeros(len(world.catalog), dtype=torch.bool)
    unmet[[3, 30]] = True
    hard = HardNegatives(len(past), 6)
    hard.mine(ranker(world, model), past, unmet)
    vectors = model.embed_items(world.catalog)
    scores = model.encode(past, model.memory(world.catalog, vectors)) @ vectors.T
    scores[past.people, past.items] = -np.inf
    assert (np.argsort(-scores, kind="stable")[:, :6] == 3).any()
    scores[:, unmet] = -np.inf
    for person, found in enumerate(hard.of(np.arange(len(past))).tolist()):
        assert found == np.argsort(-scores[person], kind="stable")[:6].tolist()
    unmet[:-3] = True  # three are left, of which some know some
    hard.mine(ranker(world, model), past, unmet)
    scores[:, unmet] = -np.inf
    for person, found in enumerate(hard.lists.tolist()):
        left = np.flatnonzero(np.isfinite(scores[person]))
        assert sorted(found) == [-1] * (6 - len(left)) + left.tolist()
