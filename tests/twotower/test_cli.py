"""The command line: results alone on standard output, one sentence for every error, the right exit code."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import twotower
from indexing.versions import point_at
from serving.retriever import Retriever
from serving.store.event import Event
from serving.store.store import Store
from towers.artefact import read_json, read_manifest, write_json
from towers.model import KIND
from twotower.cli import main

ROOT = Path(__file__).resolve().parents[2]


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `twotower` with these arguments, in this process."""

    def command(*arguments: Any) -> Done:
        monkeypatch.setattr(sys, "argv", ["twotower", *map(str, arguments)])
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return Done(int(ended.value.code or 0), out, err)

    return command


@pytest.fixture
def ask(run: Run, tiny_run: Any) -> Run:
    """Run `twotower COMMAND` with the folders of the small world; a keyword replaces or adds an option."""

    def command(name: str, *arguments: Any, **options: Any) -> Done:
        given = {"model": tiny_run.model_folder, "index": tiny_run.index_folder, "catalog": tiny_run.items, **options}
        pairs = [part for option, value in given.items() for part in (f"--{option}", value)]
        return run(name, *pairs, *arguments)

    return command


def one_sentence(done: Done, sentence: str, code: int) -> None:
    """It failed with this sentence, alone on standard error."""
    assert (done.code, done.out) == (code, "")
    lines = done.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert sentence in lines[0]


def test_help_names_every_command_and_version_is_that_of_the_package(run: Run) -> None:
    text = run("--help").out
    for name in ("train", "index", "recommend", "similar", "evaluate", "doctor", "import", "bench", "demo"):
        assert f"│ {name} " in text
    assert run("--version") == Done(0, f"twotower {twotower.__version__}\n", "")


def test_help_is_quick_for_it_imports_nothing_heavy() -> None:
    code = "import sys, twotower.cli; print(sorted({'torch', 'polars', 'pyarrow', 'faiss'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_recommend_and_similar_show_a_table_or_json(ask: Run, tiny_run: Any) -> None:
    done = ask("recommend", "-k", 3, user=7, interactions=tiny_run.events)
    assert done.err == ""
    assert "user 7, known by 10 items" in done.out
    answer = json.loads(ask("recommend", "--json", history="m01, m03,nothing").out)
    assert answer["unknown"] == ["nothing"]
    assert len(answer["items"]) == 10
    parts = ("--history", "m01", "--history", "m03, nothing")
    assert json.loads(ask("recommend", "--json", *parts).out) == answer
    assert "m02" not in {one["item"] for one in json.loads(ask("similar", "m02", "--json").out)["items"]}
    assert len(json.loads(ask("recommend", "--json", "-k", 1000, text="quiet piano").out)["items"]) == 40


def test_a_store_knows_people_whom_no_log_knows(ask: Run, tmp_path: Path) -> None:
    with Store.open(tmp_path / "shop.db") as store:
        store.record([Event("1", "session-1", "m02", "click", 1.0), Event("2", "session-1", "m04", "not-this", 2.0)])
    answer = json.loads(ask("recommend", "--json", "-k", 40, user="session-1", store=tmp_path / "shop.db").out)
    assert answer["query"] == "user session-1, known by 1 item"
    assert {f"m{n:02}" for n in range(40)} - {one["item"] for one in answer["items"]} == {"m02", "m04"}
    reason = json.loads(ask("explain", "m06", "--json", user="session-1", store=tmp_path / "shop.db").out)
    assert (reason["query"], reason["past"][0]["item"]) == ("user session-1, known by 1 item", "m02")
    one_sentence(ask("recommend", user="u", store="mysql://x"), "a store is kept in sqlite or postgresql", code=2)


def test_old_interests_fade_as_fast_as_is_asked(ask: Run, tiny_run: Any) -> None:
    def scores(**more: Any) -> dict[str, float]:
        answer = json.loads(ask("recommend", "--json", user=7, interactions=tiny_run.events, **more).out)
        return {one["item"]: one["retrieval"] for one in answer["items"]}

    half_life = 1e-6  # days; events of the small world are seconds apart
    shop = Retriever(tiny_run.model, tiny_run.index, tiny_run.catalog, tiny_run.log, half_life=half_life)
    expected = {one.item: one.retrieval for one in shop.recommend(user=7)}
    assert scores(**{"half-life": half_life}) == pytest.approx(expected)
    assert scores() != pytest.approx(expected)
    one_sentence(ask("recommend", history="m01", **{"half-life": 0}), "a number of days above 0", code=2)


@pytest.mark.parametrize("scheme", ["", "sqlite:///"])
def test_a_store_that_is_not_there_is_not_made(ask: Run, tmp_path: Path, scheme: str) -> None:
    store = f"{scheme}{tmp_path / 'typo.db'}"
    sentence = f"there is no store {store}; the service keeps its own in serve/store.sqlite beside the catalog"
    one_sentence(ask("recommend", history="m01", store=store), sentence, 2)
    one_sentence(ask("explain", "m02", history="m01", store=store), sentence, 2)
    assert list(tmp_path.iterdir()) == []


def test_a_log_is_read_on_the_scale_of_the_model(ask: Run, tiny_run: Any, tmp_path: Path) -> None:
    header, *rows = tiny_run.events.read_text("utf-8").splitlines()
    some = [row for row in rows if row.split(",")[2] in "234"]
    assert {row.split(",")[2] for row in some} == {"2", "4"}
    (tmp_path / "events.csv").write_text("\n".join([header, *some]) + "\n", "utf-8")
    done = ask("recommend", "--json", user=some[0].split(",")[0], interactions=tmp_path / "events.csv")
    assert (done.code, done.err) == (0, "")


def test_what_is_not_read_of_a_log_is_told(ask: Run, tiny_run: Any, tmp_path: Path) -> None:
    rows = tiny_run.events.read_text("utf-8").splitlines()[1:]
    events = tmp_path / "log.csv"
    header = "user_id,item_id,Rating,TIME,device"
    events.write_text("\n".join([header, *(f"{row},phone" for row in rows)]) + "\n", "utf-8")
    done = ask("recommend", "--json", user=7, interactions=events)
    told = f"{events}: not read: Rating (did you mean rating?), TIME (did you mean timestamp?), device\n"
    assert (done.code, done.err) == (0, told)


def test_people_and_their_log_are_told_apart(ask: Run, tiny_run: Any, tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    people.write_text("user_id,job\n1,artist\n1,pilot\n2,cook\n99,judge\n", "utf-8")
    given = {"user": 7, "interactions": tiny_run.events, "people": people}
    aside = f"{people}: 1 of 4 rows set aside: 1 duplicate user_id\n"
    assert ask("recommend", **given).err == f"{aside}{people}: has 2 of 30 people of {tiny_run.events}\n"
    people.write_text("user_id,job\nu1,artist\n", "utf-8")
    one_sentence(ask("recommend", **given), "people.csv has nobody of", 2)


@pytest.mark.parametrize("options", [("--people", "people.csv"), ("--rating-range", 1, 5)])
def test_what_tells_of_a_log_needs_one(run: Run, tiny_run: Any, tmp_path: Path, options: tuple[Any, ...]) -> None:
    done = run("train", "--catalog", tiny_run.items, "--out", tmp_path / "model", *options)
    one_sentence(done, "--people and --rating-range tell of a log: give --interactions with them", 2)


def test_index_info_says_what_is_there(run: Run, tiny_run: Any) -> None:
    facts = json.loads(run("index", "info", tiny_run.index_folder, "--json").out)
    assert (facts["version"], facts["count"], facts["dimension"], facts["index_kind"]) == ("000001", 40, 16, "Flat")
    assert facts["space"] == tiny_run.model.space
    assert "000001" in run("index", "info", tiny_run.index_folder).out


def test_train_and_build_write_artefacts_and_the_rows_set_aside(run: Run, tiny_run: Any, tmp_path: Path) -> None:
    events = tmp_path / "events.csv"
    events.write_text(tiny_run.events.read_text("utf-8") + "1,m02,9,5\n1,zebra,5,5\n,m02,5,5\n", "utf-8")
    out = tmp_path / "runs" / "model"
    data = ("--catalog", tiny_run.items, "--interactions", events)
    done = run("train", *data, "--recipe", tiny_run.recipe, "--rating-range", 1, 5, "--out", out)
    assert (done.code, done.out) == (0, "")
    assert "3 of 303 rows set aside: 1 missing user_id, 1 rating outside 1 to 5, 1 unknown item_id" in done.err
    rejected = [json.loads(line) for line in (tmp_path / "runs/model.rejected.jsonl").read_text("utf-8").splitlines()]
    assert [(row["row"], row["reason"]) for row in rejected] == [
        (303, "missing user_id"),
        (301, "rating outside 1 to 5"),
        (302, "unknown item_id"),
    ]
    manifest = read_manifest(out, KIND)
    assert manifest["recipe"]["rating"]["range"] == [1, 5]
    assert manifest["space"] == tiny_run.model.space  # the rows set aside changed nothing
    done = run("index", "build", "--model", out, "--catalog", tiny_run.items, "--out", tmp_path / "index")
    assert (done.code, done.out) == (0, "")
    assert "40 items, 16 dimensions, kind 'Flat'" in done.err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"user": "anna"}, "nothing is known of user 'anna'; the log has 30 people, such as 1, 2, 3"),
        ({"history": ""}, "a history needs at least one item of the catalog and the index, got none"),
        ({"history": "x,y"}, "got 2 unknown ones, the first is 'x'"),
        ({"text": ""}, "text must be words, got ''"),
        ({}, "nothing was asked for: give a user, a history, a text, a picture or a sound"),
        ({"user": 7, "history": "m01"}, "a user and a history were given"),
        ({"user": 7, "k": 0}, "k must be a whole number from 1 on, got 0"),
        ({"user": 7, "k": -3}, "k must be a whole number from 1 on, got -3"),
    ],
)
def test_a_bad_question_is_one_sentence(ask: Run, tiny_run: Any, options: dict[str, Any], sentence: str) -> None:
    k = ("-k", options.pop("k")) if "k" in options else ()
    one_sentence(ask("recommend", *k, interactions=tiny_run.events, **options), sentence, 2)


def test_a_user_without_a_log_and_an_unknown_item(ask: Run) -> None:
    one_sentence(ask("recommend", user=7), "no log was given, so no user is known", 2)
    one_sentence(ask("similar", "zebra"), "the index has no item 'zebra'; it has 40 items, such as 'm00'", 2)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("item_id,title\n", "has no usable row"),
        ("", "is empty, expected a line of column names"),
        ("id,title\n1,a\n", "; it has: id, title"),
        ("item_id,title\nq1,a\nq2,b\n", "the index has none of the catalog's items: it has 'm00', the catalog 'q1'"),
    ],
)
def test_a_catalog_that_cannot_be_used(ask: Run, tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "items.csv").write_text(content, "utf-8")
    done = ask("recommend", catalog=tmp_path / "items.csv", text="quiet")
    one_sentence(done, sentence, 1 if "index" in sentence else 2)


def test_files_that_are_not_there_or_of_the_wrong_kind(ask: Run, run: Run, tiny_run: Any, tmp_path: Path) -> None:
    one_sentence(ask("recommend", catalog=tmp_path / "no.csv", text="quiet"), "no.csv does not exist", 2)
    one_sentence(ask("recommend", catalog=ROOT / "Makefile", text="quiet"), "expected one of .parquet, .csv", 2)
    one_sentence(ask("recommend", model=tmp_path / "no", text="quiet"), "expected the folder of a twotower/model at", 1)
    one_sentence(ask("recommend", model=tmp_path, text="quiet"), "is not a twotower/model: it has no manifest.json", 1)
    one_sentence(ask("recommend", index=tmp_path, text="quiet"), "there is no file CURRENT in it", 1)
    one_sentence(run("index", "info", tiny_run.model_folder), "there is no file CURRENT in it", 1)


def test_an_artefact_of_a_newer_format_and_a_damaged_one(ask: Run, tiny_run: Any, tmp_path: Path) -> None:
    newer = Path(shutil.copytree(tiny_run.model_folder, tmp_path / "newer"))
    write_json(newer / "manifest.json", {**read_json(newer / "manifest.json"), "format": 2})
    one_sentence(ask("recommend", model=newer, text="quiet"), "has format 2, this version reads up to 1: upgrade", 1)
    damaged = Path(shutil.copytree(tiny_run.model_folder, tmp_path / "damaged"))
    weights = bytearray((damaged / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (damaged / "model.safetensors").write_bytes(weights)
    one_sentence(ask("recommend", model=damaged, text="quiet"), "has changed since it was written", 1)


def test_an_index_of_another_model(ask: Run, tiny_run: Any, tmp_path: Path) -> None:
    foreign = Path(shutil.copytree(tiny_run.index_folder, tmp_path / "index"))
    manifest = foreign / "versions/000001/manifest.json"
    write_json(manifest, {**read_json(manifest), "space": "0" * 64})
    point_at(foreign, "000001")
    one_sentence(ask("recommend", index=foreign, text="quiet"), "the index belongs to another model", 1)


@pytest.mark.parametrize("place", ["file", "file/model"])
def test_where_nothing_can_be_written_it_says_so_before_training(
    run: Run, tiny_run: Any, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_text("mine", "utf-8")
    data = ("--catalog", tiny_run.items, "--interactions", tiny_run.events, "--recipe", tiny_run.recipe)
    done = run("train", *data, "--out", tmp_path / place)
    one_sentence(done, "exists and is not a whole twotower/model" if place == "file" else "cannot write", 1)
    done = run(
        "index", "build", "--model", tiny_run.model_folder, "--catalog", tiny_run.items, "--out", tmp_path / place
    )
    assert done.code == 1
    assert done.err.startswith("error: ")
    assert (tmp_path / "file").read_text("utf-8") == "mine"


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ("train.epoch = 3", "unknown key 'train.epoch', did you mean 'train.epochs'?"),
        ("train.epochs = 0", "train.epochs: Input should be greater than or equal to 1, got 0"),
        ("train.epochs = ", "cannot be read"),
        (
            "rating.range = [0, 5]",
            "rating.range is (0.0, 5.0) in the recipe, but the log was read with rating_range=(1.0",
        ),
    ],
)
def test_a_bad_recipe(run: Run, tiny_run: Any, tmp_path: Path, recipe: str, sentence: str) -> None:
    (tmp_path / "recipe.toml").write_text(recipe, "utf-8")
    data = ("--catalog", tiny_run.items, "--interactions", tiny_run.events, "--recipe", tmp_path / "recipe.toml")
    one_sentence(run("train", *data, "--rating-range", 1, 5, "--out", tmp_path / "model"), sentence, 2)
    assert not (tmp_path / "model").exists()


def test_a_wrong_option_is_explained_with_exit_code_2(run: Run) -> None:
    for arguments, sentence in (
        (("recommend",), "Missing option '--model'"),
        (("recomend",), "No such command 'recomend'"),
        (("train", "--rating-range", "1"), "requires 2 arguments"),
    ):
        done = run(*arguments)
        assert (done.code, done.out) == (2, "")
        assert sentence in done.err


def test_what_nobody_foresaw_is_named_and_traced_with_debug(
    ask: Run, tiny_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("serving.retriever.Retriever.recommend", broken)
    one_sentence(ask("recommend", user=7), "ZeroDivisionError: by zero; run again with --debug to see where", 1)
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--debug"])
    with pytest.raises(ZeroDivisionError):
        main()


def test_a_warning_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def warning(_: str) -> None:
        warnings.simplefilter("default")
        warnings.warn("look here", UserWarning, stacklevel=1)
        raise KeyboardInterrupt

    monkeypatch.setattr("twotower.commands.measuring._benchmark", warning)
    assert run("bench", "any") == Done(130, "", "warning: look here\ninterrupted\n")


def test_a_benchmark_runs_from_a_checkout_with_its_own_options(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/__init__.py").touch()
    (tmp_path / "benchmarks/page.py").write_text('if __name__ == "__main__":\n    print("no record")\n', "utf-8")
    (tmp_path / "benchmarks/two_words.py").write_text(
        'import sys\nif __name__ == "__main__":\n    print(sys.argv[0].endswith("two_words.py"), sys.argv[1:])\n'
        "    # record.finish()\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
        monkeypatch.delitem(sys.modules, name)
    one_sentence(run("bench", "two-words"), "benchmarks are not part of an installed twotower", 2)
    monkeypatch.setattr("twotower.commands.measuring.CHECKOUT", tmp_path)
    assert run("bench", "two-words", "--seeds", "3") == Done(0, "True ['--seeds', '3']\n", "")
    one_sentence(run("bench", "three"), "there is no benchmark 'three'; there are: two-words", 2)


def _press_ctrl_c(process: subprocess.Popen[bytes]) -> str:
    """What `process` says when it is interrupted; pressed again as a person would.

    Python loses an interrupt that arrives inside a `__del__`, as tokenizers' regular expressions have them.
    """
    for _ in range(4):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=20)[1].decode()
    process.kill()
    return "never ended: " + process.communicate()[1].decode()


def test_ctrl_c_while_training_leaves_nothing_half_written(tiny_run: Any, tmp_path: Path) -> None:
    recipe = tiny_run.recipe.read_text("utf-8").replace("epochs = 2", "patience = 1000000, epochs = 1000000")
    (tmp_path / "recipe.toml").write_text(recipe, "utf-8")
    command = [sys.executable, "-m", "twotower", "train", "--catalog", str(tiny_run.items)]
    command += ["--interactions", str(tiny_run.events), "--recipe", str(tmp_path / "recipe.toml")]
    process = subprocess.Popen([*command, "--out", str(tmp_path / "runs/model")], cwd=ROOT, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/**/events.out.*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    err = _press_ctrl_c(process)
    assert process.returncode == 130
    assert err.rstrip().endswith("interrupted")
    assert "Traceback" not in err.split("Exception ignored in")[0]
    left = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert left == ["model.rejected.jsonl", "tensorboard"]
