"""From pictures and vectors of sounds to answers: trained, saved, read again, and asked by a picture or an item."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

pytest.importorskip("open_clip", reason="needs the extra media")

from PIL import Image, ImageDraw

from indexing.build import build_index
from serving.retriever import Retriever
from towers.catalog import Catalog
from towers.embed import VectorCache
from towers.errors import InputError
from towers.history import Histories
from towers.interactions import Interactions
from towers.model import TwoTower
from towers.sequence_reader import SequenceBatch
from towers.weights import fetch
from training.trainer import train
from twotower.cli import app

ITEMS, PEOPLE = 24, 40  # even items show a red disc, odd ones blue stripes
BROKEN, OUTSIDE, EMPTY = 4, 6, 23


def picture(kind: int, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (96, 96), tuple(int(v) for v in rng.integers(200, 256, 3)))
    draw = ImageDraw.Draw(image)
    at = int(rng.integers(4, 24))
    if kind:
        for line in range(at, 96, 16):
            draw.rectangle((0, line, 96, line + 6), fill=(20, 30, int(rng.integers(180, 256))))
    else:
        draw.ellipse((at, at, at + 60, at + 60), fill=(int(rng.integers(180, 256)), 20, 20))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@dataclass
class Shop:
    folder: Path
    catalog: Catalog
    log: Interactions
    told: list[str]
    model: TwoTower
    retriever: Retriever


@pytest.fixture(scope="module")
def shop(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    (folder / "covers").mkdir()
    paths: list[str | None] = [f"covers/{n}.png" for n in range(ITEMS)]
    for n in range(ITEMS):
        (folder / "covers" / f"{n}.png").write_bytes(picture(n % 2, n))
    (folder / "covers" / f"{BROKEN}.png").write_bytes(picture(0, BROKEN)[:200])
    paths[OUTSIDE], paths[EMPTY] = "../secret.png", None
    rng = np.random.default_rng(0)
    sounds = [[float(n % 2), 1.0 - n % 2, *rng.normal(0, 0.1, 3)] if n != EMPTY else None for n in range(ITEMS)]
    columns = {
        "item_id": [f"t{n:02}" for n in range(ITEMS)],
        "image": paths,
        "audio": sounds,
    }
    pl.DataFrame(columns).write_parquet(folder / "items.parquet")
    events = [
        (u, f"t{item:02}", step)
        for u in range(PEOPLE)
        for step, item in enumerate(rng.permutation(np.arange(u % 2, ITEMS - 1, 2))[:6])
    ]
    pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv(folder / "log.csv")
    recipe: dict[str, Any] = {
        "text": {"source": str(tiny_bert)},
        "audio": {"source": "vectors"},
        "item": {"dimension": 16, "hidden": 32, "ids": False, "template": ""},
        "user": {"text": False},
        "train": {"epochs": 12, "evaluate_every": 4, "batch_people": 20, "rate": 1e-2},
    }
    catalog, log = Catalog.read(folder / "items.parquet"), Interactions.read(folder / "log.csv")
    trunk = fetch("efficientnet-lite0").parent
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        patch.setenv("TWOTOWER_CACHE", str(folder / "cache"))
        (folder / "weights").symlink_to(trunk)
        model = train(catalog, log, recipe=recipe, weights=folder / "weights", out=folder / "model", progress=False)
        index = build_index(model, catalog, out=folder / "index", progress=False)
        retriever = Retriever(model, index, catalog, log)
        yield Shop(folder, catalog, log, [str(one.message) for one in told], model, retriever)


def kinds(found: Any) -> list[int]:
    return [int(one.item[1:]) % 2 for one in found]


def test_what_cannot_be_read_is_told_and_its_item_keeps_the_rest(shop: Shop) -> None:
    _, unread = shop.model.contents(shop.catalog, VectorCache(shop.folder / "cache" / "vectors"))
    found = {row["row"]: (row["reason"], row["value"]) for row in unread.rows}
    assert set(found) == {BROKEN + 1, OUTSIDE + 1}
    assert found[BROKEN + 1] == ("image is cut off", f"covers/{BROKEN}.png")
    assert found[OUTSIDE + 1] == ("image lies outside the catalog's folder", "../secret.png")
    assert any("these items keep what else they have" in line for line in shop.told)
    assert any(f"are set aside: 't{EMPTY}'" in line for line in shop.told)
    lines = [json.loads(line) for line in (shop.folder / "model.rejected.jsonl").read_text("utf-8").splitlines()]
    assert {line["row"]: (line["reason"], line["value"]) for line in lines} == found
    lines = [json.loads(line) for line in (shop.folder / "index.rejected.jsonl").read_text("utf-8").splitlines()]
    assert {(line["row"], line["item"], line["reason"], line["value"]) for line in lines} == {
        (BROKEN + 1, f"t{BROKEN:02}", "image is cut off", f"covers/{BROKEN}.png"),
        (OUTSIDE + 1, f"t{OUTSIDE:02}", "image lies outside the catalog's folder", "../secret.png"),
        (EMPTY + 1, f"t{EMPTY}", "item of which nothing can be read", f"t{EMPTY}"),
    }
    assert sum("2 pictures, sounds or vectors of 24 items cannot be used" in line for line in shop.told) == 2
    assert shop.retriever._index.ids.to_list() == [f"t{n:02}" for n in range(ITEMS) if n != EMPTY]


def test_a_new_picture_finds_items_that_look_like_it(shop: Shop) -> None:
    for kind in (0, 1):
        assert kinds(shop.retriever.recommend(image=picture(kind, 1000 + kind), k=8)) == [kind] * 8
    (shop.folder / "new.png").write_bytes(picture(1, 2000))
    assert kinds(shop.retriever.recommend(image=shop.folder / "new.png", k=5)) == [1] * 5


def test_a_picture_is_one_more_past_item(shop: Shop) -> None:
    """After a history it stands last: the query is that of the history followed by the picture's own vector."""
    history, shown = ["t01", "t03"], picture(0, 3000)
    found = shop.retriever.recommend(history=history, image=shown, k=5)
    assert found.query == "a history of 2 items, a picture"
    vector = shop.model.encode_media({"image": shown})
    memory = shop.retriever._memory
    sequence = np.stack([memory.vectors[1], memory.vectors[3], vector[0]])
    assert shop.model.user.sequence is not None
    batch = SequenceBatch.of(Histories.of([[0, 1, 2]]), shop.model.user.sequence.config.length)
    with torch.inference_mode():
        query = shop.model.user.sequence(torch.from_numpy(sequence), batch)[:, -1].numpy()
    late = shop.model.standing(shop.retriever.people.positives, ITEMS)
    scores = dict(enumerate((query @ memory.vectors.numpy().T)[0] + (0 if late is None else late)))
    best = sorted((n for n in scores if n not in (1, 3, EMPTY)), key=lambda n: -scores[n])[:5]
    assert [one.item for one in found] == [f"t{n:02}" for n in best]
    np.testing.assert_allclose([one.retrieval for one in found], [scores[n] for n in best], atol=1e-5)


@pytest.mark.parametrize("by", ["image", "audio"])
def test_similar_by_one_kind_of_content(shop: Shop, by: str) -> None:
    found = shop.retriever.similar("t10", by=by, k=8)
    assert kinds(found) == [0] * 8
    row = shop.catalog.rows(["t10"])
    vector = shop.model.embed_items(shop.catalog.select(row), by=by)
    scores = (vector @ shop.retriever._index.vectors.T)[0]
    np.testing.assert_allclose([one.score for one in found], np.sort(np.delete(scores, 10))[::-1][:8], atol=1e-5)


def test_an_items_own_picture_is_its_vector(shop: Shop) -> None:
    """One picture is read as the whole catalog is."""
    row = shop.catalog.rows(["t10"])
    asked = shop.model.encode_media({"image": shop.folder / "covers" / "10.png"})
    vector = shop.model.embed_items(shop.catalog.select(row), by="image")
    assert float((asked @ vector.T)[0, 0]) > 0.9999


def test_the_reason_names_what_was_shown_and_weighs_pictures_against_sounds(shop: Shop) -> None:
    shown, history = picture(0, 5000), ["t02", "t08"]
    found = shop.retriever.recommend(image=shown, history=history, k=5)
    place, top = next((n, one) for n, one in enumerate(found, 1) if one.item not in (f"t{BROKEN:02}", f"t{OUTSIDE:02}"))
    reason = shop.retriever.explain(top.item, image=shown, history=history)
    assert (reason.query, reason.place) == ("a history of 2 items, a picture", place)
    assert reason.score == pytest.approx(top.score, abs=1e-4)
    assert {(one.item, one.title) for one in reason.past} == {("t02", "t02"), ("t08", "t08"), (None, "what was shown")}
    assert {one.name for one in reason.contents} - {"other"} == {"image", "audio"}
    (sequence,) = [part.value for part in reason.parts if part.name == "sequence"]
    assert sum(one.value for one in reason.contents) == pytest.approx(sequence, abs=1e-4)
    assert sum(one.value for one in reason.past) == pytest.approx(sequence, abs=1e-4)
    without = {one.title: one.score for one in reason.counterfactuals}
    fresh = shop.retriever.explain(top.item, history=history)
    assert without["what was shown"] == pytest.approx(fresh.score, abs=1e-4)


def test_saved_and_read_again_the_answers_are_the_same(shop: Shop) -> None:
    again = Retriever(TwoTower.load(shop.folder / "model"), shop.folder / "index", shop.catalog, shop.log)
    shown = picture(1, 4000)
    mine, theirs = (one.recommend(image=shown, k=6).to_json() for one in (shop.retriever, again))
    assert mine == theirs


def test_bad_questions(shop: Shop) -> None:
    for question, message in (
        ({"image": b"GIF89a"}, "image is"),
        ({"image": shop.folder / "none.png"}, "none.png"),
        ({"image": ""}, "image must be the path of a file, or its bytes, got ''"),
        ({"image": Image.new("RGB", (2, 2))}, "image must be the path of a file, or its bytes, got <PIL"),
        ({"audio": b"RIFF"}, "this model has no encoder of audio content; it has: text, image"),
    ):
        with pytest.raises(InputError, match=message):
            shop.retriever.recommend(**question)
    with pytest.raises(InputError, match=f"item 't{BROKEN:02}' has no image in the catalog that can be read"):
        shop.retriever.similar(f"t{BROKEN:02}", by="image")
    with pytest.raises(InputError, match="has no kind of content 'pictures'"):
        shop.retriever.similar("t10", by="pictures")


def test_from_a_terminal(shop: Shop) -> None:
    common = [part for name in ("model", "index") for part in (f"--{name}", str(shop.folder / name))]
    common += ["--catalog", str(shop.folder / "items.parquet"), "--json"]
    shown = ["--image", str(shop.folder / "covers" / "3.png")]
    for command in (["recommend", *shown], ["similar", "t03", "--by", "image"]):
        done = CliRunner().invoke(app, [*command, *common])
        assert done.exit_code == 0, done.output
        assert {int(one["item"][1:]) % 2 for one in json.loads(done.stdout)["items"][:6]} == {1}


def test_a_picture_is_chosen_and_dropped_on_the_page(shop: Shop, tmp_path: Path) -> None:
    """A real browser; of sounds this model has vectors alone, so the page asks for none."""
    pytest.importorskip("fastapi", reason="needs the extra serve")
    pytest.importorskip("playwright", reason="needs Playwright")
    from playwright.sync_api import sync_playwright

    from serving.store.store import Store
    from serving.web.app import create_app
    from serving.web.changes import Changes
    from serving.web.limits import Limits
    from serving.web.offer import Offer, Shelf
    from serving.web.source import Source
    from tests.serving.web.conftest import served
    from tests.serving.web.test_page import CHROMIUM, began, changed, titles

    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    disc, stripes = picture(0, 6000), picture(1, 6001)
    expected = [[one.title for one in shop.retriever.recommend(image=one, k=12)] for one in (disc, stripes)]
    store, run = Store.open(tmp_path / "shop.db"), (shop.catalog, shop.log)
    offer = Offer(shop.retriever, shop.model, *run, "first")
    source = Source(
        shop.folder / "model", shop.folder / "index", lambda: run[0], lambda _: run[1], store, Changes(tmp_path)
    )
    app = create_app(Shelf(offer), source, store, limits=Limits(seconds=60))
    with served(app) as address, sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(20_000)
        page.goto(address)
        began(page)
        assert page.locator("#drop").is_visible()
        assert page.locator("#file").get_attribute("accept") == "image/*"
        page.locator("#file").set_input_files({"name": "disc.png", "mimeType": "image/png", "buffer": disc})
        assert changed(page, []) == expected[0]
        assert page.locator("#status").inner_text().startswith("12 items for someone with no history, a picture")
        page.evaluate(
            """bytes => {
                const dataTransfer = new DataTransfer(), type = "image/png";
                dataTransfer.items.add(new File([new Uint8Array(bytes)], "stripes.png", { type }));
                document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer }));
            }""",
            list(stripes),
        )
        assert changed(page, expected[0]) == expected[1]
        assert page.locator("#dropped span").inner_text() == "stripes.png"
        page.locator("#file").set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"a"})
        page.get_by_text("a.txt is neither a picture nor a sound").wait_for()
        assert titles(page) == expected[1]
        page.get_by_role("button", name="Take it away").press("Enter")
        assert not page.locator("#dropped").is_visible()
        assert page.evaluate("document.activeElement.id") == "file"
        browser.close()
