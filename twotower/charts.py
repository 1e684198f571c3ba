"""How every picture looks, and the one that shows methods with their intervals; colours that read on light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from towers.errors import MissingExtraError

try:
    from plotly.graph_objects import Figure
    from plotly.offline import get_plotlyjs
except ImportError as error:
    raise MissingExtraError("pictures need plotly: pip install 'twotower[report]'") from error

__all__ = ["OTHERS", "OURS", "Figure", "Point", "blank", "escaped", "get_plotlyjs", "interval_plot", "points"]

OURS, OTHERS = "#e8590c", "#868e96"


@dataclass(frozen=True)
class Point:
    """One figure with its interval.

    Args:
        name: the line that it stands on.
        seed: points of one name and several seeds stand below one another.
        value, low, high: the figure and its interval.
        colour: as CSS.
    """

    name: str
    seed: Any
    value: float
    low: float
    high: float
    colour: str


def points(rows: Sequence[dict[str, Any]], metric: str) -> list[Point]:
    """One metric of every row that has it, ours in the colour of ours.

    Args:
        rows: as in a benchmark's JSON; a metric is ``[value, low, high]`` or a number.
        metric: its name.
    """
    found = []
    for row in rows:
        value = row["metrics"].get(metric)
        if value is not None:
            middle, low, high = value if isinstance(value, list) else (value, value, value)
            colour = OURS if row["method"].startswith("twotower") else OTHERS
            found.append(Point(row["method"], row.get("seed"), middle, low, high, colour))
    return found


def interval_plot(shown: Sequence[Point], names: Sequence[str], title: str, *, zero: bool = False) -> Figure:
    """Points with their intervals.

    Args:
        shown: what is drawn.
        names: the lines, from top to bottom; one without a point stays empty.
        title: above the picture.
        zero: mark zero by a line, as for differences.
    """
    shares = {name: sum(point.name == name for point in shown) for name in names}
    most = max(shares.values(), default=1)
    lines = max((name.count("<br>") + 1 for name in names), default=1)
    figure = blank(title, height=74 + max(15 + 12 * most, 9 + 18 * lines) * len(names), left=128)
    for colour in dict.fromkeys(point.colour for point in shown):
        _add(figure, shown, names, colour)
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=list(names),
        range=[len(names) - 0.4, -0.6],
        showgrid=False,
        automargin=True,
    )
    figure.update_xaxes(range=_range(shown, zero), nticks=5)
    if zero:
        figure.add_vline(x=0, line={"width": 1, "color": OTHERS}, layer="below")
    return figure


def blank(title: str, *, height: int, left: int, bottom: int = 34) -> Figure:
    """An empty figure that looks as all do; sizes in pixels."""
    figure = Figure()
    figure.update_layout(
        title={"text": title, "x": 0, "xanchor": "left", "font": {"size": 15}},
        height=height,
        margin={"l": left, "r": 12, "t": 40, "b": bottom},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        showlegend=False,
        dragmode=False,
        hoverlabel={"bgcolor": "#212529", "bordercolor": "#212529", "font": {"color": "#fff"}},
    )
    figure.update_xaxes(zeroline=False)
    figure.update_yaxes(zeroline=False)
    return figure


def escaped(text: str) -> str:
    """Text for plotly, which reads tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _add(figure: Figure, shown: Sequence[Point], names: Sequence[str], colour: str) -> None:
    """The points of one colour; those that share a line stand below one another, evenly."""
    some = [point for point in shown if point.colour == colour]
    places, words = [], []
    for point in some:
        beside = [other for other in shown if other.name == point.name]
        places.append(names.index(point.name) + 0.75 * ((beside.index(point) + 0.5) / len(beside) - 0.5))
        words.append(point.name if len(beside) < 2 else f"{point.name}, seed {point.seed}")
    figure.add_scatter(
        x=[point.value for point in some],
        y=places,
        text=words,
        mode="markers",
        marker={"size": 9, "color": colour},
        error_x={
            "symmetric": False,
            "array": [point.high - point.value for point in some],
            "arrayminus": [point.value - point.low for point in some],
            "thickness": 2,
            "width": 0,
        },
        hovertemplate="%{text}: %{x:.3f}<extra></extra>",
    )


def _range(shown: Sequence[Point], zero: bool) -> list[float]:
    """From zero, unless everything lies far above it."""
    low, high = min((point.low for point in shown), default=0.0), max((point.high for point in shown), default=1.0)
    if zero or low <= high / 2:
        low, high = min(low, 0.0), max(high, 0.0)
    room = 0.05 * (high - low) or 0.05
    return [low - room, high + room]
