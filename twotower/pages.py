"""HTML pages that need no network, for a wide screen or a phone, in light or dark: their frame, tables and pictures.

Needs plotly: importing this raises `MissingExtraError` without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from twotower.charts import Figure, get_plotlyjs

STYLE = Path(__file__).with_name("pages.css")
# The browser itself then refuses whatever would be loaded from elsewhere.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"


def document(title: str, parts: Iterable[str], *, style: str = "", policy: str = POLICY) -> str:
    """A whole page, plotly and style inside.

    Args:
        title: plain text.
        parts: HTML of its sections, in order.
        style: CSS that this page has beside that of all pages.
        policy: what the browser may load.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE.read_text("utf-8")}{style}</style>
<script>{get_plotlyjs()}</script>
</head>
<body>
<main>
{"".join(parts)}
</main>
</body>
</html>
"""


def table(
    names: Sequence[str], lines: Iterable[Sequence[str]], *, marked: Sequence[int] = (), words: Sequence[int] = (0,)
) -> str:
    """A table of cells that are HTML already.

    Args:
        names: heads of the columns.
        lines: cells of each row.
        marked: rows that stand out.
        words: columns that are no numbers.
    """
    kinds = [' class="words"' if number in words else "" for number in range(len(names))]
    head = "".join(f"<th{kind}>{name}</th>" for kind, name in zip(kinds, names, strict=True))
    body = []
    for number, line in enumerate(lines):
        cells = "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, line, strict=True))
        body.append(f"<tr{' class=marked' if number in marked else ''}>{cells}</tr>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def picture(name: str, figure: Figure) -> str:
    """A figure in an element with the id `name`."""
    options = {"displayModeBar": False, "responsive": True}
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=options)
    return f'<div class="picture">{drawn}</div>'
