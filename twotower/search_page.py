"""The page of a search: how it went, what mattered, and every trial."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from towers.artefact import atomic_file
from training.search import Found, Range, Trial
from twotower.charts import OTHERS, OURS, Figure, blank
from twotower.pages import document, picture, table


def write_search_page(found: Found, path: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    parts = [
        "<h1>Which settings validate best</h1>",
        f"<p>{_summary(found)}</p>",
        picture("history", history(found)),
        *(picture(f"setting-{n}", setting(found, name)) for n, name in enumerate(found.best.settings)),
        "<h2>All trials, the best first</h2>",
        _trials(found),
    ]
    with atomic_file(path) as temporary:
        temporary.write_text(document("Search", parts), "utf-8")


def history(found: Found) -> Figure:
    """NDCG@20 of each trial in their order, and the best so far."""
    figure = blank("NDCG@20 on validation data, trial by trial (grey: ended early)", height=300, left=60, bottom=48)
    for state, colour in {"pruned": OTHERS, "complete": OURS}.items():
        shown = [trial for trial in found.trials if trial.state == state and trial.value is not None]
        name = "ended early" if state == "pruned" else "trained to the end"
        figure.add_scatter(
            x=[trial.number + 1 for trial in shown], y=[trial.value for trial in shown], name=name, mode="markers",
            marker={"color": colour, "size": 8}, text=[_settings(trial) for trial in shown],
            hovertemplate="trial %{x}: %{y:.4f}<br>%{text}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title="trial")
    return figure


def setting(found: Found, name: str) -> Figure:
    """NDCG@20 beside one setting's value."""
    shown = [trial for trial in found.trials if trial.state == "complete"]
    share = found.importance.get(name)
    title = f"{name}: {share:.0%} of the differences" if share is not None else name
    figure = blank(escape(title), height=260, left=60, bottom=48)
    values = [trial.settings[name] for trial in shown]
    figure.add_scatter(
        x=values, y=[trial.value for trial in shown], mode="markers", showlegend=False,
        marker={"color": [OURS if trial == found.best else OTHERS for trial in shown], "size": 8},
        hovertemplate="%{x}: %{y:.4f}<extra></extra>",
    )  # fmt: skip
    choice = found.space[name]
    if isinstance(choice, Range) and choice.log:
        figure.update_xaxes(type="log")
    elif isinstance(choice, list):
        figure.update_xaxes(type="category", categoryorder="array", categoryarray=choice)
    return figure


def _summary(found: Found) -> str:
    kinds = {"complete": "trained to the end", "pruned": "ended early", "fail": "failed"}
    counts = [(sum(trial.state == state for trial in found.trials), said) for state, said in kinds.items()]
    told = ", ".join(f"{count} {said}" for count, said in counts if count)
    seconds = sum(trial.seconds for trial in found.trials)
    best = f"Best: {found.best.value:.4f} in trial {found.best.number + 1}."
    return escape(
        f"{len(found.trials)} trainings, {told}; {seconds / 60:.0f} minutes. {best} No test data were looked at."
    )


def _trials(found: Found) -> str:
    ranked = sorted(found.trials, key=lambda trial: (trial.state != "complete", -(trial.value or 0)))
    names = list(found.best.settings)
    lines = [
        [
            str(trial.number + 1),
            "–" if trial.value is None else f"{trial.value:.4f}",
            escape(trial.error or {"complete": "", "pruned": "ended early"}.get(trial.state, trial.state)),
            *(escape(_short(trial.settings.get(name))) for name in names),
            f"{trial.seconds:.0f}",
        ]
        for trial in ranked
    ]
    return table(["trial", "ndcg@20", "", *map(escape, names), "seconds"], lines, marked=[0], words=(2,))


def _settings(trial: Trial) -> str:
    return escape(", ".join(f"{name} {_short(value)}" for name, value in trial.settings.items()))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
