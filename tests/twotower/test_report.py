"""The demo's page: all of it there, its figures those of the rows, nothing fetched, titles escaped."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from serving.recommendations import Recommendation, Recommendations
from towers.catalog import Catalog
from towers.history import Histories
from towers.interactions import Interactions
from training.config import Recipe
from training.measuring.protocols import leave_one_out
from training.report import Report
from twotower.findings import Findings
from twotower.plots import FAMILIES, families
from twotower.report import page, write_report
from twotower.story import Candidate, Story

FILMS = 40
NASTY = '<b>Bad</b> & "Worse" </script><img src="http://example.org/x.png">'
PICTURES = ["group-head", "group-torso", "group-tail", "map", "loss", "validation"]


def row(method: str, shift: float) -> dict[str, Any]:
    names = ("recall@20", "ndcg@20", "recall@20/head", "recall@20/torso", "recall@20/tail", "recall@100")
    metrics = {name: [round(value + shift, 4) for value in (0.2, 0.15, 0.27)] for name in names}
    return {"method": method, "split": "leave-one-out", "seed": 0, "metrics": {**metrics, "coverage@20": 0.3 + shift}}


@pytest.fixture(scope="module")
def findings() -> Findings:
    """A run that nobody ran: forty films, two people."""
    genres = ["Comedy, Drama", "Film-Noir", None, "Animation, Comedy"] * 10
    titles = [NASTY, *(f"Film {number}" for number in range(1, FILMS))]
    ids = list(range(FILMS))
    catalog = Catalog.read(pl.DataFrame({"item_id": ids, "title": titles, "year": 1950, "genres": genres}))
    events = pl.DataFrame(
        {"user_id": [1, 1, 1, 1, 2, 2, 2], "item_id": [0, 1, 2, 3, 4, 5, 6], "rating": [1.0, 5, 3, 2, 4, 4, 5]}
    )
    vectors = np.random.default_rng(0).normal(size=(FILMS, 8)).astype(np.float32)
    answer = Recommendations(
        "q", (Recommendation(0, NASTY, 3.2, 0.71, 4.4), Recommendation(3, "Film 3", 3.1, 0.69, 3.9))
    )
    epochs = [{"epoch": epoch, "sequence": 6 - epoch / 10, "ndcg@20": epoch / 100} for epoch in (2, 4)]
    return Findings(
        catalog=catalog,
        log=Interactions.read(events, rating_range=(1, 5)),
        split=leave_one_out(Histories.of([[0, 1, 2, 3], [4, 5, 6]])),
        recipe=Recipe.read({"train": {"epochs": 4, "text_epochs": 1, "seed": 7}}),
        training=Report(
            epochs=epochs,
            best_epochs=[4],
            seconds=61.0,
            fusion={"gate": 0.2, "ndcg@20": {"0.1": 0.05, "0.2": 0.0617}},
            reranking={"weight": 0.0},
        ),
        rows=[row("item-knn", 0.0), row("twotower-retrieval", 0.01), row("twotower", 0.02)],
        verdict="twotower <wins>.",
        story=Story(
            user=NASTY,
            about="age 1 & more",
            picked="the first",
            before=2,
            unseen=38,
            watched=((f"{NASTY} (1950)", 5.0),),
            candidates=(Candidate(NASTY, 0.5, 4.26, 1, 2, True), Candidate("Film 9", 0.4, None, 2, 1, False)),
            target=(NASTY, 4.0),
        ),
        words="a <slow> thriller",
        described=answer,
        film="Film 1 (1950)",
        similar=Recommendations("q", (Recommendation(2, "Film 2", 0.9, 0.9, None),)),
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        seconds=75.0,
    )


@pytest.fixture(scope="module")
def html(findings: Findings) -> str:
    return page(findings)


class Page(HTMLParser):
    """Every tag with its attributes, and the text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def drawn(html: str, name: str) -> list[dict[str, Any]]:
    """The traces that plotly is told to draw in an element."""
    start = re.search(rf'Plotly\.newPlot\(\s*"{name}",\s*', html)
    assert start is not None
    return json.JSONDecoder().raw_decode(html, start.end())[0]


def test_every_picture_is_there(html: str) -> None:
    ids = [attributes.get("id") for _, attributes in Page(html).tags]
    assert [one for one in ids if one in PICTURES] == PICTURES
    assert [len(drawn(html, name)) for name in PICTURES] == [2, 2, 2, len(FAMILIES) + 1, 1, 1]


@pytest.mark.parametrize("group", ["head", "torso", "tail"])
def test_the_pictures_show_the_rows(findings: Findings, html: str, group: str) -> None:
    shown = {}
    for trace in drawn(html, f"group-{group}"):
        error = trace["error_x"]
        for method, value, above, below in zip(
            trace["text"], trace["x"], error["array"], error["arrayminus"], strict=True
        ):
            shown[method] = [value, value - below, value + above]
    wanted = {row["method"]: row["metrics"][f"recall@20/{group}"] for row in findings.rows}
    assert shown == {method: pytest.approx(values) for method, values in wanted.items()}


def test_the_curves_show_the_training(html: str) -> None:
    assert (drawn(html, "loss")[0]["x"], drawn(html, "loss")[0]["y"]) == ([2, 4], [5.8, 5.6])
    assert drawn(html, "validation")[0]["y"] == [0.02, 0.04]
    assert html.count("text reader joins") == 2
    assert html.count("kept: epoch 4") == 2


def test_the_map_shows_every_film_once(html: str) -> None:
    points = [text for trace in drawn(html, "map")[:-1] for text in trace["text"]]
    assert len(points) == FILMS
    assert sorted(points)[0].startswith("&lt;b&gt;Bad&lt;/b&gt; &amp;")


def test_the_table_shows_the_rows(html: str) -> None:
    text = Page(html).text
    assert "item-knn 0.200 0.150–0.270 0.200 0.150–0.270 0.200 0.150–0.270 0.300 0.200 0.150–0.270" in text
    assert "twotower 0.220 0.170–0.290 0.220 0.170–0.290 0.220 0.170–0.290 0.320 0.220 0.170–0.290" in text
    assert html.count("<b>0.220</b>") == 4  # the best of a column


def test_the_words_are_there(html: str) -> None:
    text = Page(html).text
    for words in (
        "twotower <wins>.",
        "Chosen on validation data: The text reader counts 0.2 beside 1 for the sequence reader.",
        "The weight of predicted ratings in re-ranking is 0, a miss",
        "a <slow> thriller",
        "Films near Film 1 (1950)",
        "4 epochs, the last 1 with the text reader; shorter than the recipe that ships (",
        "); trained in 61 s",
        "from the last point of the curve to 0.062.",
        "Seed 7",
        "cores",
        "4.3★ 2 ↓1",
        "Of 38 films it stood at place 1 by retrieval, 2 after re-ranking.",
    ):
        assert words in text


def test_nothing_is_fetched(html: str) -> None:
    tags = Page(html).tags
    assert not [tag for tag, _ in tags if tag in ("link", "iframe", "img", "object", "embed", "base")]
    assert not [attributes for _, attributes in tags if {"src", "href", "srcset", "action"} & attributes.keys()]
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    policy = next(attributes["content"] for tag, attributes in tags if "http-equiv" in attributes)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"


def test_titles_are_text_and_never_tags(html: str) -> None:
    text = Page(html).text
    assert NASTY in text
    assert "<b>Bad</b>" not in html
    assert "</script><img" not in html


def test_the_file_is_written_whole(findings: Findings, html: str, tmp_path: Path) -> None:
    write_report(findings, tmp_path / "new" / "report.html")
    assert (tmp_path / "new" / "report.html").read_text("utf-8") == html
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["report.html"]


def test_a_film_belongs_to_the_first_family_that_fits() -> None:
    genres = ["Comedy, Horror", "Drama, War", "Animation, Children's, Comedy", "Drama", None, "unknown"]
    catalog = Catalog.read(pl.DataFrame({"item_id": range(6), "genres": genres}))
    names = list(FAMILIES)
    assert [names[number] for number in families(catalog)] == [
        "Horror",
        "War, western",
        "Children’s, animation",
        *3 * ["Drama, unknown"],
    ]
