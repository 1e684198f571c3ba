"""The shop's page: covers to see, sounds to play, tracks to pick, and what is recommended then, and why.

One HTML file beside the folder of the shop, whose covers and sounds it shows. It needs no network and no server: the
recommendations are computed in the browser, from the vectors in the page.

Needs plotly: importing this raises `MissingExtraError` without it.
"""

from __future__ import annotations

import base64
import json
import os
from datetime import date
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from towers.artefact import atomic_file
from twotower.charts import interval_plot, points
from twotower.machine import machine
from twotower.pages import POLICY, document, picture, table
from twotower.studio.exam import KNOWN, METRIC, NAMES, NEW, K
from twotower.studio.findings import Findings
from twotower.studio.settings import GENERATED
from twotower.studio.shelf import MOST, SHOWN

STYLE, SCRIPT = (Path(__file__).with_name(f"page.{kind}") for kind in ("css", "js"))
# Files beside the page as well: 'self' where a server gives them out, `file:` where they are opened from a disk.
WITH_MEDIA = f"{POLICY} 'self' file:; media-src 'self' file:"


def write_page(findings: Findings, path: Path) -> None:
    """Write the page, whole or not at all.

    Args:
        findings: what it tells.
        path: the file; it points at the shop's covers and sounds as they lie from there.

    Raises:
        ArtefactError: the file cannot be written.
    """
    text = page(findings, Path(os.path.relpath(findings.shop.folder, path.parent)).as_posix())
    with atomic_file(path) as temporary:
        temporary.write_text(text, "utf-8")


def page(findings: Findings, folder: str) -> str:
    """The page as HTML.

    Args:
        findings: what it tells.
        folder: of the shop, as seen from the page.
    """
    values = _data(findings, folder)
    parts = [_opening(findings), _shelf(values), _answer(), _figures(findings), _facts(findings), _script(values)]
    return document("A generated music shop", parts, style=STYLE.read_text("utf-8"), policy=WITH_MEDIA)


def _data(findings: Findings, folder: str) -> dict[str, Any]:
    """All that the script needs: tracks, shelf, every possible pick with its query, and the parts of item vectors."""
    shop, shelf = findings.shop, findings.shelf
    columns = shop.catalog.table.select(["title", "artist", "text", "image", "audio"]).to_pylist()
    media = {"image", "audio"}
    tracks = [
        {name: f"{quote(folder)}/{quote(value)}" if name in media else value for name, value in track.items()}
        | {"new": new}
        for track, new in zip(columns, shop.cold.tolist(), strict=True)
    ]
    return {
        "tracks": tracks,
        "shelf": shelf.rows.tolist(),
        "most": MOST,
        "shown": SHOWN,
        "dimension": shelf.queries.shape[1],
        "picks": [" ".join(map(str, pick)) for pick in shelf.picks],
        "queries": _base64(shelf.queries),
        "parts": [{"name": name, "vectors": _base64(shelf.parts[kind])} for kind, name in NAMES.items()],
    }


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _opening(findings: Findings) -> str:
    shop = findings.shop
    return f"""<header>
<p class="made">{escape(GENERATED)}</p>
<h1>A music shop that can be seen and heard</h1>
<p class="lead">{len(shop.catalog):,} tracks, each with a text, a cover and a sound, and {len(shop.users):,} listeners
whose taste hangs on all three. Pick up to three tracks that you like: what comes next is worked out on this page, from
the vectors of the model that was just trained, and every recommendation says what text, cover and sound had to do
with it.</p>
</header>
"""


def _shelf(values: dict[str, Any]) -> str:
    cards = "".join(_card(values["tracks"][row]) for row in values["shelf"])
    return f"""<section>
<h2>Pick up to three tracks</h2>
<p class="note">{len(values["shelf"])} tracks, drawn at random. A click on a cover picks it, ▶ plays its sound; a fourth
pick takes the place of the first.</p>
<ul id="shelf">{cards}</ul>
<div class="chosen">
<p id="picked" role="status"></p>
<button type="button" id="again" disabled>Start again</button>
</div>
</section>
"""


def _card(track: dict[str, Any]) -> str:
    title = escape(track["title"])
    return f"""<li><button type="button" class="pick" aria-pressed="false"><img src="{escape(track["image"])}" alt=""
 width="160" height="160"><b>{title}</b><small>{escape(track["artist"])}</small></button>
<button type="button" class="play" aria-label="Play {title}">▶</button>
<audio preload="none" src="{escape(track["audio"])}"></audio></li>"""


def _answer() -> str:
    return """<section id="answer" hidden>
<h2>Recommended</h2>
<p class="note">Of all tracks, those picked left out. The score is the cosine of what the model makes of the picks,
read in the order of the shelf, and of what it makes of the track. It is a sum: the bars show what the track’s text,
cover and sound add to it. <span class="new">new</span> marks tracks that nobody had chosen when the model was
trained.</p>
<ol id="found"></ol>
</section>
<noscript><section>Picking tracks needs JavaScript.</section></noscript>
"""


def _figures(findings: Findings) -> str:
    methods = findings.methods()
    lines = [[escape(name), *(_figure(found[split]) for split in (KNOWN, NEW))] for name, found in methods.items()]
    ours = [number for number, name in enumerate(methods) if name == "twotower"]
    pictures = "".join(
        picture(
            split.replace(" ", "-"),
            interval_plot(
                points([row for row in findings.rows if row["split"] == split], METRIC), list(methods), split
            ),
        )
        for split in (KNOWN, NEW)
    )
    return f"""<section id="figures">
<h2>How often what a listener chooses is among the first {K}</h2>
{table(("", KNOWN, NEW), lines, marked=ours)}
<p class="note">{escape(findings.explained())}</p>
<div class="two">{pictures}</div>
</section>
"""


def _figure(metric: list[float]) -> str:
    value, low, high = metric
    return f"{value:.3f}<small>{low:.3f}–{high:.3f}</small>"


def _facts(findings: Findings) -> str:
    train = findings.recipe.train
    facts = {
        "Data": f"{GENERATED} Seed {findings.shop.seed}",
        "Protocol": "each listener’s last choice is the test, the one before it validation, the rest training",
        "Recipe": f"{train.epochs} epochs, no id vectors, no text reader; trained in {findings.training.seconds:.0f} s",
        "Machine": machine(),
        "Run": f"{date.today():%Y-%m-%d}, {findings.seconds / 60:.1f} minutes in all",
    }
    entries = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return f'<section id="facts"><h2>What was run</h2><dl>{entries}</dl></section>\n'


def _script(values: dict[str, Any]) -> str:
    """The data, then what reads it; nothing in the data can end its element."""
    data = json.dumps(values, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="data">{data}</script>\n<script>{SCRIPT.read_text("utf-8")}</script>\n'
