"""The demo in small: sixty people, a tiny text encoder, two epochs."""

from __future__ import annotations

import io
import json
import shlex
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from indexing.index import ItemIndex
from serving.web.offer import Offer
from towers.catalog import Catalog
from towers.interactions import Interactions
from towers.model import TwoTower
from towers.movielens import movielens_100k
from training.measuring.baselines import baseline_grids
from training.measuring.evaluate import Result
from training.measuring.metrics import bootstrap
from training.ranker import IndexRanker
from twotower import demo
from twotower.cli import app
from twotower.findings import Findings
from twotower.screen import _broken
from twotower.story import pick

PEOPLE = 60


@dataclass(frozen=True)
class Run:
    """A finished demo."""

    out: Path
    findings: Findings
    said: str


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Run:
    """The whole demo, once."""
    catalog, log = movielens_100k()
    log = log.keep(log.table["user_id"].to_numpy() <= PEOPLE)
    out, said = tmp_path_factory.mktemp("demo") / "out", io.StringIO()
    recipe = {
        "text": {"source": str(tiny_bert)},
        "item": {"dimension": 16},
        "train": {"epochs": 2, "text_epochs": 1, "anchors": 1, "anchors_per_step": 1, "evaluate_every": 1},
    }
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.setenv("TWOTOWER_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(demo, "movielens_100k", lambda **_: (catalog, log))
        patch.setattr(demo, "BASELINES", {"most-popular": {}, "item-knn": {"neighbours": 10, "shrink": 0}})
        findings = demo.run(out, progress=False, recipe=recipe)
    return Run(out, findings, said.getvalue())


def test_each_part_is_told_within_the_width_of_a_terminal(small: Run) -> None:
    lines = small.said.splitlines()
    parts = ["MovieLens-100K", "Training", "One person: user ", 'In plain words: "a slow black and white thriller"']
    parts += ["Films near Alien (1979)", "How well, beside others", "Written", "Try next"]
    starts = [next(n for n, line in enumerate(lines) if line.startswith(part)) for part in parts]
    assert starts == sorted(starts)
    assert f"{PEOPLE} people, 1,682 films, {len(small.findings.log):,} ratings of 1 to 5 stars." in small.said
    assert "2 epochs, the last 1 with the text reader; shorter than the recipe that ships" in small.said
    told = lines[: starts[-2]]  # what follows are paths, as long as they are
    assert max(len(line.rstrip()) for line in told) <= 100
    assert "…" not in "".join(told)


def test_the_rows_are_what_an_evaluation_of_the_saved_model_gives(small: Run) -> None:
    rows = {row["method"]: row for row in small.findings.rows}
    assert list(rows) == ["most-popular", "item-knn", "twotower-retrieval", "twotower"]
    model, index = TwoTower.load(small.out / "model"), ItemIndex.load(small.out / "index")
    ranker = IndexRanker(model, index, small.findings.catalog, depth=demo.DEPTH, log=small.findings.split.train)
    test = small.findings.split.test
    found = (ranker.rank(test.histories, 20).rows == test.targets.items[:, None]).any(axis=1)
    assert rows["twotower"]["metrics"]["recall@20"][0] == pytest.approx(found.mean(), abs=1e-6)
    assert f"{found.mean():.3f}" in small.said


def test_the_story_is_told_from_before_the_film_that_was_watched_next(small: Run) -> None:
    story, test = small.findings.story, small.findings.split.test
    users, _ = small.findings.log.histories(small.findings.catalog)
    question = int(np.flatnonzero(users.rows([story.user])[0] == test.people)[0])
    history = test.histories.take([question])
    labels = small.findings.catalog.texts("{title}[ ({year})]")
    assert story.before == len(history.items)
    assert [film for film, _ in story.watched] == [labels[row] for row in history.items[:-6:-1]]
    assert [stars for _, stars in story.watched] == (1 + 4 * history.ratings[:-6:-1]).tolist()
    assert story.target[0] == labels[test.targets.items[question]]

    model, index = TwoTower.load(small.out / "model"), ItemIndex.load(small.out / "index")
    past = small.findings.split.train
    retrieved = IndexRanker(model, index, small.findings.catalog, log=past).rank(history, demo.DEPTH)
    assert [one.film for one in story.candidates] == [labels[row] for row in retrieved.rows[0]]
    assert [one.retrieval for one in story.candidates] == pytest.approx(retrieved.scores[0].tolist(), abs=1e-6)
    final = IndexRanker(model, index, small.findings.catalog, depth=demo.DEPTH, log=past).rank(history, demo.DEPTH)
    by_final = sorted(story.candidates, key=lambda one: one.final)
    assert [one.film for one in by_final] == [labels[row] for row in final.rows[0]]
    assert (story.found is not None) == (test.targets.items[question] in retrieved.rows[0])
    assert story.outcome() in " ".join(small.said.split())


def test_the_tables_are_the_data(small: Run) -> None:
    assert Catalog.read(small.out / "items.parquet").fingerprint == small.findings.catalog.fingerprint
    log = Interactions.read(small.out / "interactions.parquet", people=small.out / "people.parquet")
    assert log.rating_range == (1.0, 5.0)
    assert log.table.equals(small.findings.log.table)
    assert log.people.equals(small.findings.log.people)


@pytest.mark.parametrize("number", range(3))
def test_the_commands_to_try_next_work(small: Run, number: int) -> None:
    program, *arguments = demo.commands(small.out)[number]
    assert program == "twotower"
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.stderr
    assert len(json.loads(done.stdout)["items"]) == 10


def test_the_last_command_serves_what_was_made(small: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Offer] = []
    monkeypatch.setattr("serving.web.run.run", lambda source, store, **_: served.append(source.load()))
    program, *arguments = demo.commands(small.out)[-1]
    assert program == "twotower"
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    (offer,) = served
    assert len(offer.retriever.recommend(user="42", k=10)) == 10
    assert offer.catalog.fingerprint == small.findings.catalog.fingerprint


def test_a_command_reads_the_same_when_it_is_broken_into_lines() -> None:
    command = demo.commands(Path("/tmp/a folder/" + 40 * "x"))[0]
    shown = _broken(command)
    assert shown.count("\\\n") >= 2
    assert "\N{NO-BREAK SPACE}" not in shown
    assert shlex.split(shown.replace("\\\n", " ")) == command
    assert not any(line.rstrip(" \\").endswith(("--model", "--index", "--catalog")) for line in shown.splitlines())


def test_the_page_is_written(small: Run) -> None:
    assert (small.out / "report.html").read_text("utf-8").startswith("<!doctype html>")
    assert f"{small.out / 'report.html'}" in "".join(small.said.split())


def test_without_plotly_the_demo_ends_and_says_so(small: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("report", "pages", "plots", "charts"):
        monkeypatch.delitem(sys.modules, f"twotower.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    assert demo._report(small.findings, tmp_path / "report.html") == (
        "no page: pictures need plotly: pip install 'twotower[report]'"
    )
    assert list(tmp_path.iterdir()) == []


def result(*found: float) -> Result:
    values = {"recall@20": np.array(found), "ndcg@20": np.array(found) / 2}
    means = {name: bootstrap(value) for name, value in values.items()}
    return Result(means, np.arange(len(found)), values, 0, 0.0)


def test_the_verdict_is_computed() -> None:
    good, better, best = result(1, 0, 0, 0), result(1, 1, 0, 0), result(1, 1, 1, 1)
    rivals = {"most-popular": good, "ease": better}
    assert demo.verdict({**rivals, "twotower": best}).startswith(
        "twotower beats every baseline in recall@20 and ndcg@20: recall@20 +0.500 against ease (95 % interval "
    )
    assert demo.verdict({**rivals, "twotower": good}).startswith(
        "twotower does not beat every baseline: recall@20 -0.250 against ease (95 % interval "
    )
    assert demo.verdict({**rivals, "twotower": better}).startswith(
        "twotower does not beat every baseline: recall@20 +0.000"
    )
    mixed = Result(best.metrics, best.people, {**best.per_person, "ndcg@20": good.per_person["ndcg@20"]}, 0, 0.0)
    assert demo.verdict({**rivals, "twotower": mixed}).startswith(
        "twotower beats every baseline in recall@20, but not in ndcg@20: recall@20 +0.500 against ease"
    )
    assert demo.verdict({"twotower": best}) == "There is no baseline to compare with."


def test_every_baseline_setting_is_one_that_the_benchmark_tries() -> None:
    for name, settings in demo.BASELINES.items():
        assert any(settings.items() <= candidate.settings.items() for candidate in baseline_grids()[name])


def test_the_first_readable_person_whose_film_was_found_is_picked(small: Run) -> None:
    test = small.findings.split.test
    lengths = test.histories.lengths
    readable = np.flatnonzero((lengths >= 20) & (lengths <= 60))
    found = np.zeros(len(test))
    found[[readable[2], readable[3]]] = 1
    found[np.flatnonzero(lengths > 60)[0]] = 1
    question, how = pick(test, Result({}, test.people, {"recall@20": found}, 0, 0.0))
    assert question == readable[2]
    assert how == "the first in the test with 20 to 60 films whose next one stands in their top 20"
    question, how = pick(test, Result({}, test.people, {"recall@20": np.zeros(len(test))}, 0, 0.0))
    assert question == readable[0]
    assert how.endswith("none of them has the next one in their top 20")


def test_the_baselines_have_the_settings_that_the_benchmark_chose() -> None:
    """As the demo says."""
    record = Path(__file__).parents[2] / "benchmarks" / "results" / "movielens-100k.json"
    chosen = json.loads(record.read_text("utf-8"))["jobs"]["baselines, seed 0"]
    for name, settings in demo.BASELINES.items():
        assert settings.items() <= chosen[name]["chosen"].items(), name
