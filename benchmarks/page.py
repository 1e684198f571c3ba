"""python -m benchmarks.page [--out docs/results.html]

Every record of ``benchmarks/results`` and the log of what was tried, as one HTML page that needs no network.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from benchmarks.page_plots import difference_figures, figures, groups, is_part, names_of, part_figures
from benchmarks.record import RESULTS, ROOT, read_record
from towers.artefact import atomic_file
from towers.errors import InputError, TwoTowerError
from twotower.charts import Figure
from twotower.pages import document, picture, table

LOG = "LOG.md"
FACTS = ("command", "commit", "date", "machine", "versions", "seconds")
KNOWN = {"bench", "rows", "differences", "protocol", *FACTS}  # the rest of a record is shown as JSON
ROW = {"method", "split", "seed", "metrics"}
WIDE = 12  # columns that a screen shows side by side


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results.html", help="where to write it")
    out = parser.parse_args().out
    try:
        text = page(RESULTS)
        with atomic_file(out) as temporary:
            temporary.write_text(text, "utf-8")
    except TwoTowerError as error:
        raise SystemExit(f"error: {error}") from error
    print(out)


def page(folder: Path) -> str:
    """The page as HTML.

    Args:
        folder: holds records (``*.json``) and the log (``LOG.md``, not needed).

    Raises:
        InputError: no record, or one that cannot be read.
    """
    records = [read_record(path) for path in sorted(folder.glob("*.json"))]
    if not records:
        raise InputError(f"{folder} holds no record (*.json): run a benchmark with --save first")
    log = folder / LOG
    parts = [_opening(records), *(_record(record) for record in records)]
    if log.is_file():
        parts.append(f'<section id="log" class="prose">{rendered(log.read_text("utf-8"))}</section>\n')
    return document("twotower, measured", parts)


def rendered(text: str) -> str:
    """Markdown as HTML, its headings one level lower; HTML in it stays text."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = markdown.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{int(token.tag[1]) + 1}"
    html = str(markdown.renderer.render(tokens, markdown.options, {}))
    return html.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")


def _opening(records: list[dict[str, Any]]) -> str:
    lines = [
        [
            f'<a href="#{_id(one["bench"])}">{escape(one["bench"])}</a>',
            *(_fact(one, name) for name in ("date", "seconds")),
            str(len(one["rows"])),
        ]
        for one in records
    ]
    return f"""<header>
<h1>What was measured</h1>
<p class="lead">Every record of <code>benchmarks/results</code>, and <a href="#log">what was tried</a>, misses included.
Small figures and lines around points are 95&nbsp;% intervals; points that share a name are seeds. Orange is ours.</p>
</header>
<section>{table(("benchmark", "date", "took", "rows"), lines)}</section>
"""


def _record(record: dict[str, Any]) -> str:
    bench = record["bench"]
    parts = [
        f'<section id="{_id(bench)}" class="record">\n<h2>{escape(bench)}</h2>',
        f'<p class="note">{escape(str(record["protocol"]))}</p>' if "protocol" in record else "",
        *(_group(bench, name, rows) for name, rows in groups(record["rows"]).items()),
        _differences(bench, record.get("differences") or []),
        _facts(record),
        "</section>\n",
    ]
    return "\n".join(part for part in parts if part)


def _group(bench: str, name: str, rows: list[dict[str, Any]]) -> str:
    """Pictures and tables of the rows of one split."""
    names = names_of(rows)
    whole, parts = ([one for one in names if is_part(one, names) == inner] for inner in (False, True))
    if not whole:
        whole, parts = names, []
    shown = [f"<h3>{escape(name)}</h3>" if name else "", _pictures(f"{bench}-{name}", figures(name, rows), "two")]
    drawn = part_figures(rows)
    layout = "two" if len(drawn) % 3 else "three"
    shown += [_rows(rows, whole), _pictures(f"{bench}-{name}-parts", drawn, layout)]
    if parts:
        shown.append(_folded("Figures by part of the data", _rows(rows, parts)))
    return "\n".join(shown)


def _rows(rows: list[dict[str, Any]], metrics: Sequence[str]) -> str:
    """All rows with these metrics and whatever else a row says; one long row stands upright."""
    splits = ["split"] if len({str(row.get("split")) for row in rows}) > 1 else []
    more = [*splits, *(["seed"] if any("seed" in row for row in rows) else [])]
    more += dict.fromkeys(key for row in rows for key in row if key not in ROW)
    lines = [
        [
            escape(row["method"]),
            *(_cell(row.get(key)) for key in more),
            *(_cell(row["metrics"].get(one)) for one in metrics),
        ]
        for row in rows
    ]
    ours = [number for number, row in enumerate(rows) if row["method"].startswith("twotower")]
    heads = ["method", *(escape(key) for key in (*more, *metrics))]
    if len(rows) == 1 and len(heads) > WIDE:
        return table(("", ""), zip(heads, lines[0], strict=True))
    return table(heads, lines, marked=ours if len(ours) < len(rows) else (), words=range(1 + len(splits)))


def _differences(bench: str, entries: list[dict[str, Any]]) -> str:
    if not entries:
        return ""
    keys = list(dict.fromkeys(key for entry in entries for key in entry))
    words = [number for number, key in enumerate(keys) if key not in ("seed", "difference")]
    lines = [
        [_signed(entry.get(key)) if key == "difference" else _cell(entry.get(key)) for key in keys] for entry in entries
    ]
    return f"""<h3>Paired differences on the same people</h3>
<p class="note">Orange: the interval lies above zero; blue: below; grey: it holds zero.</p>
{_pictures(f"{bench}-differences", difference_figures(entries), "two")}
{_folded("As a table", table([escape(key) for key in keys], lines, words=words))}"""


def _facts(record: dict[str, Any]) -> str:
    entries = "".join(f"<dt>{name}</dt><dd>{_fact(record, name)}</dd>" for name in FACTS if name in record)
    rest = {key: value for key, value in record.items() if key not in KNOWN}
    more = ""
    if rest:
        text = escape(json.dumps(rest, indent=1, ensure_ascii=False))
        more = _folded(f"More of the record: {escape(', '.join(rest))}", f"<pre>{text}</pre>")
    return f"<h3>What was run</h3>\n<dl>{entries}</dl>\n{more}"


def _fact(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if name == "seconds" and isinstance(value, int | float):
        return f"{value:,.0f} s" if value < 120 else f"{value / 60:,.0f} min"
    if name == "versions" and isinstance(value, dict):
        return escape(", ".join(f"{package} {version}" for package, version in value.items()))
    if name == "command":
        return f"<code>{escape(str(value))}</code>"
    return "–" if value is None else escape(str(value))


def _pictures(name: str, drawn: Iterable[Figure], layout: str) -> str:
    shown = [picture(_id(f"{name}-{number}"), figure) for number, figure in enumerate(drawn)]
    return f'<div class="{layout}">{"".join(shown)}</div>' if shown else ""


def _folded(title: str, html: str) -> str:
    return f"<details><summary>{title}</summary>{html}</details>"


def _cell(value: Any) -> str:
    """Any value of a record: a figure with its interval below, a number, words, or JSON."""
    if isinstance(value, list) and len(value) == 3 and all(map(_is_number, value)):
        return f"{_number(value[0])}<small>{_number(value[1])}–{_number(value[2])}</small>"
    if _is_number(value):
        return _number(value)
    if value is None:
        return "–"
    return escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _signed(value: Any) -> str:
    if isinstance(value, list) and len(value) == 3 and all(map(_is_number, value)):
        return f"{value[0]:+.3f}<small>{value[1]:+.3f} to {value[2]:+.3f}</small>"
    return _cell(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: float) -> str:
    """Three decimals; fewer for large numbers, more for tiny ones, none for whole ones."""
    if isinstance(value, int):
        return f"{value:,}"
    size = abs(value)
    if not math.isfinite(value):
        return str(value)
    if 0 < size < 0.001:
        return f"{value:.2g}"
    if size >= 10 and value == round(value):
        return f"{value:,.0f}"
    return f"{value:.3f}" if size < 10 else f"{value:,.2f}" if size < 1000 else f"{value:,.0f}"


def _id(text: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in text)


if __name__ == "__main__":
    main()
