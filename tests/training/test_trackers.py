"""Curves arrive where the recipe sends them, with the figures that the report has."""

from __future__ import annotations

import io
import socket
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from towers.artefact import read_manifest
from towers.errors import ArtefactError, InputError, MissingExtraError
from towers.model import KIND
from training import trackers, trainer
from training.config import Recipe
from training.trackers import begun, flat
from training.trainer import train


def train_with(
    tiny_run: Any, folder: Path, names: list[str], name: str = "first", **settings: Any
) -> list[dict[str, Any]]:
    """The epochs of the report of a training whose curves go to these trackers."""
    recipe = tomllib.loads(tiny_run.recipe.read_text("utf-8"))
    recipe["user"]["text"] = False
    recipe["train"] |= {"trackers": names, **settings}
    train(tiny_run.catalog, tiny_run.log, recipe=recipe, out=folder / name, progress=False)
    return read_manifest(folder / name, KIND)["training"]["epochs"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))


def test_tensorboard_has_losses_gradient_and_metrics(tiny_run: Any, tmp_path: Path) -> None:
    epochs = train_with(tiny_run, tmp_path, ["tensorboard"])
    events = EventAccumulator(str(tmp_path / "tensorboard/first")).Reload()
    for name in ("loss", "sequence", "gradient", "gradient/sequence", "ndcg@20"):
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert found == [(entry["epoch"], pytest.approx(entry[name], rel=1e-5)) for entry in epochs]
    assert epochs[0]["gradient"] > 0


def test_losses_of_every_epoch_metrics_of_every_validation_and_what_mining_took(tiny_run: Any, tmp_path: Path) -> None:
    train_with(tiny_run, tmp_path, ["tensorboard"], epochs=4, evaluate_every=2, hard_negatives=2)
    events = EventAccumulator(str(tmp_path / "tensorboard/first")).Reload()
    for name, epochs in {"loss": [1, 2, 3, 4], "gradient": [1, 2, 3, 4], "ndcg@20": [2, 4]}.items():
        assert [event.step for event in events.Scalars(name)] == epochs
    assert all(event.value > 0 for event in events.Scalars("mining_seconds"))


def test_a_training_that_is_refitted_has_curves_of_what_it_was_chosen_by(tiny_run: Any, tmp_path: Path) -> None:
    recipe = tomllib.loads(tiny_run.recipe.read_text("utf-8"))
    recipe["user"]["text"] = False
    out = tmp_path / "first"
    train(tiny_run.catalog, tiny_run.log, recipe=recipe, protocol="temporal", out=out, progress=False)
    (file,) = tmp_path.rglob("events.out.tfevents*")
    found = EventAccumulator(str(file)).Reload().Scalars("ndcg@20")
    epochs = read_manifest(out, KIND)["training"]["epochs"]
    assert [(one.step, one.value) for one in found] == [(e["epoch"], pytest.approx(e["ndcg@20"])) for e in epochs]


def test_models_side_by_side_are_runs_side_by_side_with_their_settings(tiny_run: Any, tmp_path: Path) -> None:
    for name, rate in {"a": 0.001, "b": 0.002}.items():
        epochs = train_with(tiny_run, tmp_path, ["tensorboard"], name, rate=rate)
        (file,) = (tmp_path / "tensorboard" / name).iterdir()  # another file would be followed in its place
        events = EventAccumulator(str(file)).Reload()
        assert [event.value for event in events.Scalars("loss")] == [pytest.approx(one["loss"]) for one in epochs]
        kept = HParamsPluginData.FromString(
            events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        ).session_start_info.hparams
        assert kept["train.rate"].number_value == rate
    assert sorted(path.name for path in (tmp_path / "tensorboard").iterdir()) == ["a", "b"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_mlflow(tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)
    epochs = train_with(tiny_run, tmp_path, ["mlflow"])
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("twotower")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "first"
    assert run.data.params["train.trackers"] == "['mlflow']"
    for name, metric in {"loss": "loss", "ndcg at 20": "ndcg@20"}.items():
        values = client.get_metric_history(run.info.run_id, name)
        assert [(one.step, one.value) for one in values] == [
            (entry["epoch"], pytest.approx(entry[metric])) for entry in epochs
        ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::ResourceWarning")
def test_weights_and_biases_offline(tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    train_with(tiny_run, tmp_path, ["wandb"])
    (written,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    content = written.read_bytes()
    assert b"ndcg@20" in content
    assert b"train.rate" in content


def test_a_tracker_whose_library_is_absent_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda _: None)
    message = "the tracker wandb needs its library: pip install wandb"
    with pytest.raises(MissingExtraError, match=message), begun(["wandb"], tmp_path / "first", {}):
        pass


def test_trackers_end_however_a_training_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that had begun when another could not."""
    ended: list[str] = []

    class Noted(trackers.OneRun):
        def start(self) -> None:
            if self.run_name == "late":
                raise RuntimeError("no room")

        def store_init_configuration(self, values: dict[str, Any]) -> None: ...

        def finish(self) -> None:
            ended.append(self.run_name)

    monkeypatch.setattr(trackers, "_made", lambda name, out: Noted(name, out.parent))
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda _: True)
    with pytest.raises(ZeroDivisionError), begun(["a", "b"], tmp_path / "first", {}):  # type: ignore[list-item]
        1 / 0  # noqa: B018
    assert ended == ["b", "a"]
    with pytest.raises(InputError, match="late cannot begin"), begun(["c", "late"], tmp_path / "first", {}):  # type: ignore[list-item]
        pass
    assert ended == ["b", "a", "c"]


@pytest.fixture
def no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody is logged in to Weights & Biases, which reads its settings once a process."""
    import wandb

    for variable in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # where a key would be
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # a person would be asked for it
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.mark.usefixtures("no_key")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize(("name", "reason"), [("wandb", "No API key configured"), ("mlflow", "API request to http://")])
def test_a_tracker_that_cannot_begin_is_refused_before_anything_is_trained(
    tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        monkeypatch.setattr(trainer, "pretrain", lambda *_, **__: pytest.fail("it was trained"))
        with pytest.raises(InputError) as caught:
            train_with(tiny_run, tmp_path, [name])
    said = str(caught.value)
    assert said.startswith(f"the tracker {name} cannot begin ({reason}")
    assert said.endswith("): put that right, or leave it out of train.trackers")
    assert "\n" not in said


def test_curves_that_cannot_be_written_are_refused(tiny_run: Any, tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("mine")
    with pytest.raises(ArtefactError, match=r"cannot write curves beside .*first: (File exists|Not a directory)"):
        train_with(tiny_run, tmp_path, ["tensorboard"])


def test_a_recipe_flat() -> None:
    values = flat(Recipe.read({"train": {"rate": 0.5}}).model_dump(mode="json"))
    assert values["train.rate"] == 0.5
    assert values["user.sequence.blocks"] == 2
    assert values["image"] == "None"
    assert values["train.trackers"] == "['tensorboard']"
