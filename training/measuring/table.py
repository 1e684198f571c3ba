"""Results as a table on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

COLUMNS = ("recall@10", "ndcg@10", "recall@20", "ndcg@20", "recall@20/tail", "coverage@20", "recall@200")
SMALLER_IS_BETTER = ("gini", "rmse", "mae")


def results_table(rows: Sequence[dict[str, Any]], *, metrics: Sequence[str] = COLUMNS, title: str = "") -> Table:
    """One line for each row of a benchmark's JSON, the best value of each metric in bold, intervals dim.

    Args:
        rows: as made by `training.measuring.evaluate.Result.row`.
        metrics: names of the columns; one that no row has is left out, a missing value is a dash.
        title: above the table.
    """
    shown = [name for name in metrics if any(name in row["metrics"] for row in rows)]
    table = Table(title=title or None)
    table.add_column("method", no_wrap=True)
    table.add_column("split", no_wrap=True)
    for name in shown:
        table.add_column(name, justify="right")
    best = {name: _best(name, [row["metrics"][name] for row in rows if name in row["metrics"]]) for name in shown}
    for row in rows:
        cells = (_cell(row["metrics"].get(name), best[name]) for name in shown)
        table.add_row(escape(row["method"]), escape(row["split"]), *cells)
    return table


def _best(name: str, values: list[Sequence[float] | float]) -> float:
    choose = min if name.startswith(SMALLER_IS_BETTER) else max
    return choose(map(_value, values))


def _value(metric: Sequence[float] | float) -> float:
    return metric[0] if isinstance(metric, Sequence) else metric


def _cell(metric: Sequence[float] | float | None, best: float) -> str:
    if metric is None:
        return "–"
    text = f"[bold]{best:.3f}[/]" if _value(metric) == best else f"{_value(metric):.3f}"
    return f"{text} [dim]{metric[1]:.3f}–{metric[2]:.3f}[/]" if isinstance(metric, Sequence) else text
