"""The demo of the generated shop in small: its page answers as the model does, in Python and in a browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner

pytest.importorskip("open_clip", reason="needs the extra media")

from indexing.index import ItemIndex
from serving.retriever import Retriever
from serving.web.offer import Offer
from towers.catalog import Catalog
from towers.model import TwoTower
from towers.weights import cache_folder, fetch
from training.ranker import IndexRanker
from twotower.cli import app
from twotower.studio import demo, shelf
from twotower.studio.ceiling import ceiling
from twotower.studio.exam import KNOWN, NEW, TRUTH, make_exam
from twotower.studio.findings import Findings
from twotower.studio.page import page
from twotower.studio.settings import GENERATED, StudioSettings
from twotower.studio.shop import read_shop

SETTINGS = StudioSettings(tracks=80, listeners=60, choices=(8, 12), seconds=1.0, side=32)
SIZE = 8  # tracks on the shelf
PICKS = [(0, 1, 2), (3, 5, 7), (2, 6), (5,)]


@dataclass(frozen=True)
class Run:
    """A finished demo."""

    out: Path
    findings: Findings
    said: str
    html: str


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Iterator[Run]:
    """The whole demo, once, with real encoders of covers and sounds; vectors are kept in a cache of its own."""
    for name in ("efficientnet-lite0", "yamnet"):
        fetch(name)
    out, said, weights = tmp_path_factory.mktemp("studio") / "out", io.StringIO(), cache_folder()
    recipe = {
        **demo.RECIPE,
        "text": {"source": str(tiny_bert)},
        "item": {**demo.RECIPE["item"], "dimension": 16},
        "train": {"epochs": 2},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWOTOWER_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(shelf, "SIZE", SIZE)
        with redirect_stdout(said):
            findings = demo.run(out, weights=weights, progress=False, recipe=recipe, settings=SETTINGS)
        yield Run(out, findings, said.getvalue(), (out / "report.html").read_text("utf-8"))


@pytest.fixture(scope="module")
def shop(small: Run) -> Retriever:
    """What answers outside the page: all of it read back from the folder."""
    return Retriever(small.out / "model", small.out / "index", Catalog.read(small.out / "shop" / "items.parquet"))


def data_of(html: str) -> dict[str, Any]:
    """The values in a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def floats(data: dict[str, Any], text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(-1, data["dimension"])


def history(data: dict[str, Any], catalog: Catalog, pick: tuple[int, ...]) -> list[Any]:
    return [catalog.ids[data["shelf"][place]] for place in pick]


@pytest.mark.parametrize("pick", PICKS)
def test_the_page_holds_what_the_retriever_answers(small: Run, shop: Retriever, pick: tuple[int, ...]) -> None:
    catalog, data = small.findings.shop.catalog, data_of(small.html)
    query = floats(data, data["queries"])[data["picks"].index(" ".join(map(str, pick)))]
    shares = {part["name"]: floats(data, part["vectors"]) @ query for part in data["parts"]}
    assert list(shares) == ["text", "cover", "sound"]
    scores = np.sum(list(shares.values()), axis=0)
    scores[[data["shelf"][place] for place in pick]] = -np.inf
    best = np.argsort(-scores)[:10]
    answer = shop.recommend(history=history(data, catalog, pick), k=10)
    assert [catalog.ids[row] for row in best] == [one.item for one in answer]
    assert scores[best] == pytest.approx([one.retrieval for one in answer], abs=1e-5)


def test_the_parts_of_a_track_are_its_text_cover_and_sound_and_add_up_to_its_vector(small: Run) -> None:
    parts, index = small.findings.shelf.parts, ItemIndex.load(small.out / "index")
    np.testing.assert_allclose(sum(parts.values()), index.vectors, atol=1e-5)
    model = TwoTower.load(small.out / "model")
    for kind, part in parts.items():
        alone = model.embed_items(small.findings.shop.catalog, by=kind)
        np.testing.assert_allclose(part / np.linalg.norm(part, axis=1, keepdims=True), alone, atol=1e-5)


def test_every_choice_of_one_to_three_tracks_that_were_heard_has_a_query(small: Run) -> None:
    made, exam = small.findings.shelf, make_exam(small.findings.shop)
    assert len(set(made.rows.tolist())) == SIZE
    assert np.isin(made.rows, exam.split.train.items).all()
    assert len(set(made.picks)) == len(made.queries) == 8 + 28 + 56
    np.testing.assert_allclose(np.linalg.norm(made.queries, axis=1), 1, rtol=1e-5)


def test_the_figures_are_those_of_the_saved_model_and_of_the_true_tastes(small: Run) -> None:
    methods, exam = small.findings.methods(), make_exam(small.findings.shop)
    only = [f"twotower, {name} only" for name in ("text", "cover", "sound")]
    assert list(methods) == ["most popular", "twotower", *only, TRUTH]
    catalog, index = small.findings.shop.catalog, ItemIndex.load(small.out / "index")
    ranker = IndexRanker(TwoTower.load(small.out / "model"), index, catalog)
    for split, asked in exam.questions.items():
        rows = ranker.rank(asked.histories, 20).rows
        found = [np.isin(asked.targets.take([one]).items, rows[one]).mean() for one in range(len(asked))]
        assert methods["twotower"][split][0] == pytest.approx(np.mean(found), abs=1e-6)
    assert methods["most popular"][NEW][0] == 0
    highest = ceiling(small.findings.shop)["text+image+audio"]["known"]
    assert methods[TRUTH][KNOWN][0] == pytest.approx(highest, abs=1e-6)


def test_new_tracks_are_asked_for_as_each_listener_chose_them(small: Run) -> None:
    made = small.findings.shop
    exam = make_exam(made)
    for number in (0, 7):
        user = exam.shop.users[int(exam.people[exam.of_new.people[number]])]
        events = made.new_tracks.filter(pc.equal(made.new_tracks["user_id"], user))
        wanted = made.catalog.rows(events["item_id"]).tolist()
        assert exam.of_new.targets.take([number]).items.tolist() == wanted
        assert made.cold[wanted].all()


def test_the_terminal_tells_each_part_within_its_width(small: Run) -> None:
    lines = small.said.splitlines()
    heads = ["A generated music shop", GENERATED, "Training", "Somebody picks ", "How often what a listener chooses"]
    starts = [next(n for n, line in enumerate(lines) if line.startswith(part)) for part in [*heads, "Written"]]
    assert starts == sorted(starts)
    assert max(len(line.rstrip()) for line in lines[: starts[-1]]) <= 100
    assert "80 tracks, each with a text, a cover and a sound; 60 listeners, 54 of them" in small.said
    value, low, high = small.findings.methods()["twotower"][KNOWN]
    assert re.search(rf"twotower +{value:.3f} +{low:.3f}–{high:.3f} ", small.said)
    assert f"open {small.out / 'report.html'} in a browser." in " ".join(small.said.split())


def test_the_answer_on_the_terminal_adds_up(small: Run) -> None:
    assert len(small.findings.answers) == 10
    for one in small.findings.answers:
        assert sum(one.parts.values()) == pytest.approx(one.score, abs=1e-5)
        shares = " ".join(f"{one.parts[kind]:+.3f}" for kind in ("text", "image", "audio"))
        assert f"{one.title} {one.score:.3f} {shares}" in " ".join(small.said.split())


@pytest.mark.parametrize("number", range(3))
def test_the_commands_to_try_next_work(small: Run, number: int) -> None:
    program, *arguments = demo.commands(small.out, small.findings.shop, small.findings)[number]
    assert program == "twotower"
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.stderr
    assert len(json.loads(done.stdout)["items"]) == 10


def test_the_last_command_serves_the_shop(small: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Offer] = []
    monkeypatch.setattr("serving.web.run.run", lambda source, store, **_: served.append(source.load()))
    program, *arguments = demo.commands(small.out, small.findings.shop, small.findings)[-1]
    assert program == "twotower"
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    (offer,) = served
    somebody = offer.retriever.people.ids[0]
    found = offer.retriever.recommend(user=somebody, k=5)
    assert [offer.has(row, kind) for row in offer.catalog.rows([found[0].item]) for kind in ("image", "audio")] == [
        True
    ] * 2


def test_the_page_says_that_it_is_generated_and_finds_its_covers_and_sounds(small: Run) -> None:
    assert GENERATED in small.html
    data = data_of(small.html)
    assert [track["title"] for track in data["tracks"]] == small.findings.shop.catalog.titles
    assert [track["new"] for track in data["tracks"]] == read_shop(small.out / "shop").cold.tolist()
    for track in data["tracks"]:
        assert (small.out / unquote(track["image"])).read_bytes()[:2] == b"\xff\xd8"
        assert (small.out / unquote(track["audio"])).read_bytes()[:4] == b"fLaC"
    card = r'<li><button type="button" class="pick".*?src="(.*?)".*?<audio preload="none" src="(.*?)"'
    shown = re.findall(card, small.html, re.DOTALL)
    assert [unescape(image) for image, _ in shown] == [data["tracks"][row]["image"] for row in data["shelf"]]
    assert [unescape(audio) for _, audio in shown] == [data["tracks"][row]["audio"] for row in data["shelf"]]


def test_the_browser_may_load_files_beside_the_page_and_nothing_else(small: Run) -> None:
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', small.html)
    assert policy is not None
    allowed = dict(part.strip().split(" ", 1) for part in policy[1].split(";"))
    assert allowed == {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "script-src": "'unsafe-inline'",
        "img-src": "data: blob: 'self' file:",
        "media-src": "'self' file:",
    }
    outside = re.sub(r"<script>.*?</script>", "", small.html, flags=re.DOTALL)
    assert not re.search(r'(src|href)="(https?:)?//', outside)


def test_titles_are_text_and_never_tags(small: Run) -> None:
    nasty = '<b>Bad</b> & "Worse" </script><img src=x>'
    table = small.findings.shop.catalog.table
    titles = pa.array([nasty] * len(table))
    catalog = Catalog.read(table.set_column(table.column_names.index("title"), "title", titles))
    html = page(replace(small.findings, shop=replace(small.findings.shop, catalog=catalog)), "shop")
    assert {track["title"] for track in data_of(html)["tracks"]} == {nasty}
    assert "<b>Bad" not in html
    assert "</script><img" not in html


def test_demo_without_a_name_is_the_one_on_movielens(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[str, Path]] = []
    monkeypatch.setattr("twotower.demo.run", lambda out, weights: called.append(("movielens", out)))
    monkeypatch.setattr("twotower.studio.demo.run", lambda out, weights: called.append(("studio", out)))
    for arguments in (["demo"], ["demo", "studio"], ["demo", "studio", "--out", "there"]):
        assert CliRunner().invoke(app, arguments).exit_code == 0
    assert called == [("movielens", Path("runs/demo")), ("studio", Path("runs/studio")), ("studio", Path("there"))]


def test_a_browser_shows_what_the_retriever_answers(small: Run, shop: Retriever, tmp_path: Path) -> None:
    pick = (3, 5, 7)
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs chromium")
    address = f"{(small.out / 'report.html').as_uri()}#picks={','.join(map(str, pick))}"
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    done = subprocess.run([browser, *options, address], capture_output=True, text=True, check=True, timeout=120)
    pressed = re.findall(r'class="pick" aria-pressed="(\w+)"', done.stdout)
    assert [place for place, value in enumerate(pressed) if value == "true"] == list(pick)
    found = done.stdout[done.stdout.index('<ol id="found">') :]
    answer = shop.recommend(history=history(data_of(small.html), small.findings.shop.catalog, pick), k=10)
    titles = [unescape(title) for title in re.findall(r"<h3>(.*?)(?: <span.*?</span>)?</h3>", found)]
    assert titles[:10] == [one.title for one in answer]
    scores = re.findall(r"<dt>score</dt><dd><b>(.*?)</b>", found)
    assert [float(score) for score in scores] == pytest.approx([one.retrieval for one in answer], abs=6e-4)
