"""twotower demo studio

The generated music shop from nothing, on this machine: tracks and listeners, frozen encoders, training, index, a table
of figures, and a page on which a person sees covers, plays sounds, picks tracks and learns why others are recommended.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from indexing.build import build_index
from serving.retriever import Retriever
from towers.artefact import refuse_unwritable
from towers.errors import MissingExtraError
from towers.model import KIND
from training.config import Recipe
from training.trainer import fit
from twotower.studio.exam import make_exam, measure
from twotower.studio.findings import Findings
from twotower.studio.screen import Screen
from twotower.studio.settings import StudioSettings
from twotower.studio.shelf import ask, make_shelf
from twotower.studio.shop import ITEMS, LOG, Shop, make_shop

RECIPE: dict[str, Any] = {
    "item": {"template": "{text}", "ids": False},
    "user": {"text": False},
    "train": {"epochs": 12, "evaluate_every": 6},
}
"""Nothing but the text, cover and sound of a track is read, so that these three alone make every score."""

PICK = (0, 1, 2)  # places of the shelf for which the terminal shows an answer


def run(
    out: str | Path = "runs/studio",
    weights: str | Path | None = None,
    progress: bool = True,
    recipe: dict[str, Any] = RECIPE,
    settings: StudioSettings | None = None,
) -> Findings:
    """Make the shop, train on it, measure and ask; what is found goes to standard output and into `out`.

    Args:
        out: folder for the shop, the model, the index, and ``report.html``.
        weights: folder with pretrained weights, looked in before anything is downloaded.
        progress: show what is being done on standard error.
        recipe: what to train; without id vectors and without a text reader.
        settings: of the shop, `StudioSettings()` if None.

    Raises:
        ArtefactError: `out` cannot be written, or holds something else.
        WeightsError: weights can be found nowhere.
        MissingExtraError: what draws covers and sounds is not installed.
    """
    started, out = time.perf_counter(), Path(out)
    weights, screen, values = Path(weights) if weights is not None else None, Screen(), Recipe.read(recipe)
    refuse_unwritable(out / "model", KIND)
    shop = make_shop(out / "shop", values.train.seed, settings, progress=progress)
    exam = make_exam(shop)
    screen.shop(shop, exam)

    screen.recipe(values)
    train, validation = exam.split.train, exam.split.validation
    model, training = fit(
        shop.catalog, train, validation, values, out=out / "model", weights=weights, progress=progress
    )
    index = build_index(model, shop.catalog, out=out / "index", kind=values.index, progress=progress)
    shelf = make_shelf(model, shop.catalog, np.unique(train.items), values.train.seed)
    findings = Findings(
        shop=shop,
        recipe=values,
        training=training,
        shelf=shelf,
        pick=PICK,
        answers=ask(shelf, Retriever(model, index, shop.catalog), shop.catalog, PICK),
        rows=measure(exam, model, index, values.train.seed),
        listeners=len(exam.split.test),
        seconds=time.perf_counter() - started,
    )
    screen.findings(findings)
    screen.written(out, _report(findings, out / "report.html"), commands(out, shop, findings))
    return findings


def commands(out: Path, shop: Shop, findings: Findings) -> list[list[str]]:
    """Commands to try next, each as its arguments; the last one serves."""
    where = ["--model", f"{out / 'model'}", "--index", f"{out / 'index'}", "--catalog", f"{shop.folder / ITEMS}"]
    picked = [shop.catalog.ids[findings.shelf.rows[place]] for place in findings.pick]
    sound = shop.sounds[findings.shelf.rows[findings.pick[0]]]
    return [
        ["twotower", "recommend", "--history", ",".join(map(str, picked)), *where],
        ["twotower", "recommend", "--audio", f"{sound}", *where],
        ["twotower", "similar", str(picked[0]), "--by", "image", *where],
        ["twotower", "serve", *where, "--interactions", f"{shop.folder / LOG}"],
    ]


def _report(findings: Findings, path: Path) -> str | None:
    """Write the page; None, or why there is none."""
    try:
        from twotower.studio.page import write_page

        write_page(findings, path)
    except MissingExtraError as error:
        return f"no page: {error}"
    return None
