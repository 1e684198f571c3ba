"""The demo's page: one HTML file that needs no network, for a wide screen or a phone, in light or dark.

Needs plotly: importing this raises `MissingExtraError` without it.
"""

from __future__ import annotations

from datetime import date
from html import escape
from pathlib import Path

import numpy as np

from serving.recommendations import Recommendations
from towers.artefact import atomic_file
from towers.catalog import Catalog
from training.measuring.metrics import GROUPS
from twotower.charts import OURS, interval_plot, points
from twotower.findings import COLUMNS, Findings, recipe_words, value_of
from twotower.machine import machine
from twotower.pages import document, picture, table
from twotower.plots import CURVES, curve_plot, map_plot, places_of
from twotower.screen import stars
from twotower.story import LABEL, Candidate, Story

SHOWN = 10  # candidates of a person


def write_report(findings: Findings, path: Path) -> None:
    """Write the page, whole or not at all.

    Args:
        findings: what it tells.
        path: the file.

    Raises:
        ArtefactError: the file cannot be written.
    """
    text = page(findings)
    with atomic_file(path) as temporary:
        temporary.write_text(text, "utf-8")


def page(findings: Findings) -> str:
    """The page as HTML."""
    parts = [
        _opening(findings),
        _methods(findings),
        _map(findings),
        _person(findings.story),
        _questions(findings),
        _training(findings),
        _facts(findings),
    ]
    return document("twotower on MovieLens-100K", parts)


def _opening(findings: Findings) -> str:
    people, films, events = len(findings.split.train), len(findings.catalog), len(findings.log)
    return f"""<header>
<h1>twotower on MovieLens-100K</h1>
<p class="lead">{people:,} people, {films:,} films, {events:,} ratings. Which film did each person watch last, given all
they had watched before?</p>
<p>{escape(findings.verdict).replace("95 %", "95&nbsp;%")}</p>
</header>
"""


def _methods(findings: Findings) -> str:
    rows = findings.rows
    best = findings.best()
    lines = [[escape(row["method"]), *(_figures(row["metrics"][name], best[name]) for name in COLUMNS)] for row in rows]
    methods = [row["method"] for row in rows]
    metrics = [f"recall@20/{group}" for group in GROUPS]
    pictures = [
        picture(f"group-{group}", interval_plot(points(rows, name), methods, f"recall@20, {group}"))
        for group, name in zip(GROUPS, metrics, strict=True)
    ]
    ours = [number for number, row in enumerate(rows) if row["method"].startswith("twotower")]
    return f"""<section id="methods">
<h2>Beside other methods</h2>
{table(("method", *COLUMNS), lines, marked=ours)}
<p class="note">Small figures and lines: 95&nbsp;% intervals over {len(findings.split.test):,} people. recall@100 says
how often the film is among the 100 candidates that re-ranking gets to see. {escape(findings.chosen())}
Below, by popularity of the film: the head takes the first fifth of all training ratings, the tail the last; each
picture has a scale of its own.</p>
<div class="three">{"".join(pictures)}</div>
</section>
"""


def _map(findings: Findings) -> str:
    counts = np.bincount(findings.split.train.items, minlength=len(findings.catalog))
    figure = map_plot(findings.catalog, places_of(findings.vectors), counts)
    return f"""<section id="films">
<h2>The films as the item tower sees them</h2>
<p class="note">Near points have near vectors (t-SNE of {findings.vectors.shape[1]} dimensions); large ones are often
watched. Point at one for its title; a click on a genre hides it.</p>
{picture("map", figure)}
</section>
"""


def _person(story: Story) -> str:
    watched = "".join(f"<li>{escape(film)} <b>{stars:g}★</b></li>" for film, stars in story.watched)
    shown = story.candidates[:SHOWN]
    lines = [
        [
            str(one.place),
            escape(one.film),
            f"{one.retrieval:.3f}",
            stars(one.stars),
            f"{one.final}{_moved(one)}",
        ]
        for one in shown
    ]
    marked = [number for number, one in enumerate(shown) if one.watched]
    return f"""<section id="person">
<h2>One person: user {escape(str(story.user))}</h2>
<p class="note">{escape(story.about)}; {story.before} films so far. Picked as {escape(story.picked)}.</p>
<div class="two">
<div><h3>Watched last, newest first</h3><ol>{watched}</ol><p>{escape(story.outcome())}</p></div>
<div><h3>What is retrieved, and where predicted stars move it</h3>
{table(("", "retrieved", "score", "predicted", "re-ranked"), lines, marked=marked, words=(1,))}</div>
</div>
</section>
"""


def _questions(findings: Findings) -> str:
    return f"""<section id="questions">
<div class="two">
<div><h2>“{escape(findings.words)}”</h2>{_films(findings.catalog, findings.described)}</div>
<div><h2>Films near {escape(findings.film)}</h2>{_films(findings.catalog, findings.similar)}</div>
</div>
</section>
"""


def _training(findings: Findings) -> str:
    train = findings.recipe.train
    text_from = train.epochs - train.text_epochs + 1
    loss = curve_plot(findings.training, text_from, CURVES, "losses", rising=False)
    metric = curve_plot(findings.training, text_from, {"ndcg@20": OURS}, "ndcg@20 on validation data", rising=True)
    return f"""<section id="training">
<h2>Training</h2>
<p class="note">{escape(_phases(findings))}</p>
<div class="two">{picture("loss", loss)}{picture("validation", metric)}</div>
</section>
"""


def _phases(findings: Findings) -> str:
    """How to read the curves."""
    fusion = findings.training.fusion
    if fusion is None:
        return "The epoch with the best validation is kept."
    reached = fusion["ndcg@20"][str(fusion["gate"])]
    return (
        "The sequence reader trains until it is at its best, then both readers for a fixed number of epochs, whose end "
        "is kept. Only then it is chosen how much the text reader counts, which takes ndcg@20 on validation data from "
        f"the last point of the curve to {reached:.3f}."
    )


def _facts(findings: Findings) -> str:
    split = findings.split
    facts = {
        "Data": "MovieLens-100K (GroupLens; research use, no redistribution)",
        "Protocol": "leave-one-out by time, all unseen films ranked; each one’s last film is the test, the one "
        f"before it validation; where times are equal ({split.ties:,} people), the file decides",
        "Recipe": f"{recipe_words(findings.recipe)}; trained in {findings.training.seconds:.0f} s",
        "Baselines": "settings that `twotower bench movielens-100k` chose on validation data",
        "Seed": str(findings.recipe.train.seed),
        "Machine": machine(),
        "Run": f"{date.today():%Y-%m-%d}, {findings.seconds / 60:.1f} minutes in all",
    }
    entries = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return f'<section id="facts"><h2>What was run</h2><dl>{entries}</dl></section>\n'


def _films(catalog: Catalog, answer: Recommendations) -> str:
    labels, genres = catalog.texts(LABEL), catalog.texts("[{genres}]")
    rows = catalog.rows([one.item for one in answer])
    rated = any(one.rating is not None for one in answer)
    lines = [
        [f"{escape(labels[row])}<small>{escape(genres[row])}</small>", f"{one.retrieval:.3f}", stars(one.rating)][
            : 2 + rated
        ]
        for row, one in zip(rows, answer, strict=True)
    ]
    return table(("film", "retrieval", "predicted")[: 2 + rated], lines)


def _figures(metric: list[float] | float, best: float) -> str:
    value = value_of(metric)
    text = f"<b>{value:.3f}</b>" if value == best else f"{value:.3f}"
    return f"{text}<small>{metric[1]:.3f}–{metric[2]:.3f}</small>" if isinstance(metric, list) else text


def _moved(one: Candidate) -> str:
    moved = one.place - one.final
    words = f"{'↑' if moved > 0 else '↓'}{abs(moved)}" if moved else ""
    return f'<span class="moved">{words}</span>'
