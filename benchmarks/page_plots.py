"""The pictures of a record: what is drawn of its rows, and how."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from twotower.charts import OTHERS, OURS, Figure, Point, blank, escaped, interval_plot, points

HEADLINE = ("recall@20", "ndcg@20")
RANKING = ("recall@", "ndcg@", "mrr@", "coverage@", "gini@")  # of these the headline is enough
PARTS = ("head", "torso", "tail", "cold")
WORSE = "#4e79a7"
LINES = {True: (OURS, "#f2a65a", "#a33b08"), False: ("#4e79a7", "#59a14f", "#b07aa1", "#76b7b2", "#9c6b4e", "#868e96")}
SIZES = re.compile(r"(.+)-(\d+)")
MOST = 8  # pictures of one group; the tables have everything

Rows = Sequence[dict[str, Any]]


def groups(rows: Rows) -> dict[str, list[dict[str, Any]]]:
    """Rows by split; splits that differ only in a number at their end, such as ``items-1000``, are one group."""
    splits = dict.fromkeys(str(row.get("split", "")) for row in rows)
    stems = [match[1] for split in splits if (match := SIZES.fullmatch(split))]
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        split = str(row.get("split", ""))
        match = SIZES.fullmatch(split)
        found.setdefault(match[1] if match and stems.count(match[1]) > 1 else split, []).append(row)
    return found


def figures(name: str, rows: Rows) -> list[Figure]:
    """The pictures of one group of rows, the most telling metrics first.

    A group of sizes becomes lines over the size, a metric with intervals points with intervals, plain numbers bars.
    """
    drawn = []
    for metric in _telling(rows):
        some = [row for row in rows if _is_drawn(row["metrics"].get(metric))]
        if len({row.get("split") for row in some}) > 1:
            drawn.append(_line_plot(some, metric, name))
        elif any(isinstance(row["metrics"][metric], list) for row in some):
            drawn.append(_interval_plot(some, metric, metric))
        elif len(some) > 1:
            drawn.append(_bar_plot(some, metric))
    return drawn[:MOST]


def part_figures(rows: Rows) -> list[Figure]:
    """Recall@20 by popularity of the item, and by every other part that the rows know."""
    prefix = f"{HEADLINE[0]}/"
    if len({row.get("split") for row in rows}) > 1:
        return []
    known = [name.removeprefix(prefix) for name in names_of(rows) if name.startswith(prefix)]
    parts = sorted(known, key=lambda part: PARTS.index(part) if part in PARTS else len(PARTS))
    order = _order(rows, HEADLINE[0])
    return [_interval_plot(rows, prefix + part, f"{HEADLINE[0]}, {part}", order) for part in parts]


def difference_figures(entries: Rows) -> list[Figure]:
    """Paired differences with their intervals around a line at zero, one picture for each metric (and split)."""
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for entry in (one for one in entries if isinstance(one.get("difference"), list) and _is_drawn(one["difference"])):
        found.setdefault(tuple(str(entry[key]) for key in ("metric", "split") if key in entry), []).append(entry)
    return [_difference_plot(some, ", ".join(title)) for title, some in found.items()]


def names_of(rows: Rows) -> list[str]:
    """Every metric of the rows, in order of appearance."""
    return list(dict.fromkeys(name for row in rows for name in row["metrics"]))


def is_part(name: str, names: Iterable[str]) -> bool:
    """Whether a metric is of a part of the data, as ``recall@20/tail`` is and ``requests/s`` is not."""
    return "/" in name and (name.startswith(RANKING) or name.split("/")[0] in names)


def _telling(rows: Rows) -> list[str]:
    """Metrics to draw: recall@20 and ndcg@20, other ranking metrics only without these, and all of other kinds."""
    names = names_of(rows)
    whole = [name for name in names if not is_part(name, names)]
    known = [name for name in HEADLINE if name in whole]
    return known + [name for name in whole if name not in known and not (known and name.startswith(RANKING))]


def _is_drawn(value: Any) -> bool:
    parts = value if isinstance(value, list) and len(value) == 3 else [value]
    return all(isinstance(part, int | float) and not isinstance(part, bool) and math.isfinite(part) for part in parts)


def _points(rows: Rows, metric: str) -> list[Point]:
    """What can be drawn of a metric."""
    drawn = [row for row in rows if _is_drawn(row["metrics"].get(metric))]
    return points([{**row, "method": escaped(row["method"])} for row in drawn], metric)


def _named(shown: Sequence[Point]) -> list[str]:
    """Name of each, with its seed where there are several."""
    several = len({point.seed for point in shown}) > 1
    return [f"{point.name}, seed {point.seed}" if several else point.name for point in shown]


def _order(rows: Rows, metric: str) -> list[str]:
    """Methods from the highest value down, those without one last."""
    best = {escaped(row["method"]): -math.inf for row in rows}
    for point in _points(rows, metric):
        best[point.name] = max(point.value, best[point.name])
    return sorted(best, key=lambda name: -best[name])


def _interval_plot(rows: Rows, metric: str, title: str, order: Sequence[str] = ()) -> Figure:
    """Methods in this order, by default from the highest value down."""
    shown = _points(rows, metric)
    known = {point.name for point in shown}
    return interval_plot(shown, [name for name in order or _order(rows, metric) if name in known], escaped(title))


def _bar_plot(rows: Rows, metric: str) -> Figure:
    """Numbers without an interval, in the order of the rows, a bar for each seed."""
    shown = _points(rows, metric)
    names = _named(shown)
    places = list(range(len(shown)))
    values = [point.value for point in shown]
    figure = blank(escaped(metric), height=74 + 27 * len(shown), left=128)
    figure.add_bar(
        x=values,
        y=places,
        orientation="h",
        marker={"color": [point.colour for point in shown]},
        text=[f"{value:,.4g}" for value in values],
        textposition="outside",
        textfont={"size": 12},
        cliponaxis=False,
        hoverinfo="skip",
    )
    figure.update_layout(bargap=0.35)
    figure.update_xaxes(range=[min(1.25 * min(values), 0), max(1.25 * max(values), 0) or 1], nticks=5)
    figure.update_yaxes(
        tickvals=places,
        ticktext=names,
        range=[len(names) - 0.4, -0.6],
        showgrid=False,
        automargin=True,
        ticklabelstandoff=6,
    )
    return figure


def _line_plot(rows: Rows, metric: str, size: str) -> Figure:
    """A line for each method and seed over the sizes, on logarithmic scales where they span a power of ten."""
    figure = blank(escaped(metric), height=320, left=56, bottom=48)
    shown = _points(rows, metric)
    lines: dict[str, list[tuple[int, Point]]] = {}
    for row, name, point in zip(rows, _named(shown), shown, strict=True):
        lines.setdefault(name, []).append((_size_of(row), point))
    palettes = {ours: itertools.cycle(colours) for ours, colours in LINES.items()}
    for name, found in lines.items():
        found.sort(key=lambda one: one[0])
        colour = next(palettes[found[0][1].colour == OURS])
        figure.add_scatter(
            x=[at for at, _ in found],
            y=[point.value for _, point in found],
            error_y={
                "symmetric": False,
                "array": [point.high - point.value for _, point in found],
                "arrayminus": [point.value - point.low for _, point in found],
                "thickness": 2,
                "width": 0,
            },
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": 2},
            marker={"size": 7},
            hovertemplate="%{x:,}: %{y:,.4g}",
        )
    legend = {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"}
    figure.update_layout(showlegend=True, legend=legend)
    sizes = sorted({_size_of(row) for row in rows})
    title = {"text": escaped(size), "font": {"size": 13}}
    labels = {"tickvals": sizes, "ticktext": [_short(one) for one in sizes]}
    figure.update_xaxes(title=title, **{**_scale(sizes), **labels})
    values = [value for point in shown for value in (point.low, point.high)]
    figure.update_yaxes(automargin=True, **_scale(values))
    return figure


def _size_of(row: dict[str, Any]) -> int:
    match = SIZES.fullmatch(str(row.get("split", "")))
    return int(match[2]) if match else 0


def _short(size: int) -> str:
    """``20000`` as ``20k``."""
    for power, unit in ((1_000_000, "M"), (1_000, "k")):
        if size >= power:
            return f"{size / power:g}{unit}"
    return str(size)


def _scale(values: Sequence[float]) -> dict[str, Any]:
    """Settings of an axis: logarithmic, with few labels, where positive values span a power of ten."""
    least, most = min(values), max(values)
    if least <= 0 or most < 10 * least:
        return {}
    decades = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    places = [step * 10.0**decade for decade in decades for step in ((1, 3) if len(decades) < 5 else (1,))]
    return {"type": "log", "tickvals": places, "ticktext": [f"{place:,.10g}" for place in places]}


def _difference_plot(entries: Rows, title: str) -> Figure:
    shown = []
    for entry in entries:
        value, low, high = entry["difference"]
        colour = OURS if low > 0 else WORSE if high < 0 else OTHERS
        name = f"{escaped(str(entry.get('ours')))}<br>− {escaped(str(entry.get('theirs')))}"
        shown.append(Point(name, entry.get("seed"), value, low, high, colour))
    return interval_plot(shown, list(dict.fromkeys(point.name for point in shown)), escaped(title), zero=True)
