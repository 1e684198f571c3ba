"""The pictures of the demo's page alone: curves of training and the map of films."""

from __future__ import annotations

import numpy as np

from towers.catalog import Catalog
from towers.errors import MissingExtraError
from training.report import Report
from twotower.charts import OTHERS, OURS, Figure, blank, escaped
from twotower.story import LABEL

try:
    from sklearn.manifold import TSNE
except ImportError as error:
    raise MissingExtraError("the map needs scikit-learn: pip install 'twotower[report]'") from error

CURVES = {"sequence": "#4e79a7", "text": "#b07aa1", "fused": OURS, "sentence": "#76b7b2"}
FAMILIES = {  # a film belongs to the first that has one of its genres
    "Documentary": ({"Documentary"}, "#76b7b2"),
    "Children’s, animation": ({"Children's", "Animation"}, "#edc948"),
    "Horror": ({"Horror"}, "#9c6b4e"),
    "Science fiction, fantasy": ({"Sci-Fi", "Fantasy"}, "#4e79a7"),
    "War, western": ({"War", "Western"}, "#59a14f"),
    "Crime, thriller": ({"Crime", "Thriller", "Mystery", "Film-Noir"}, "#b07aa1"),
    "Action, adventure": ({"Action", "Adventure"}, "#e15759"),
    "Romance": ({"Romance"}, "#ff9da7"),
    "Comedy, musical": ({"Comedy", "Musical"}, "#f28e2b"),
    "Drama, unknown": ({"Drama"}, "#a0a7b0"),
}
NAMED = 30  # films whose title stands on the map
HALF_LETTER = 3.6  # pixels
MAP = (1050, 540)  # about its width and height in pixels on a wide screen


def curve_plot(training: Report, text_from: int, names: dict[str, str], title: str, *, rising: bool) -> Figure:
    """Values of each validated epoch as lines; the text reader's entry and the kept epoch are marked.

    Args:
        training: what happened.
        text_from: first epoch in which the text reader trains.
        names: key in ``training.epochs`` → colour.
        title: above the picture.
        rising: whether the lines rise, so that words stand below them.
    """
    figure = blank(title, height=300, left=52, bottom=48)
    for name, colour in names.items():
        known = [(entry["epoch"], entry[name]) for entry in training.epochs if name in entry]
        if known:
            epochs, values = zip(*known, strict=True)
            figure.add_scatter(
                x=epochs,
                y=values,
                name=name,
                mode="lines+markers",
                line={"color": colour, "width": 2},
                marker={"size": 7},
                hovertemplate="epoch %{x}: %{y:.4f}",
            )
    last = training.epochs[-1]["epoch"]
    upper, lower = (0.2, 0.09) if rising else (1.0, 0.89)
    _mark(figure, text_from - 0.5, "text reader joins", last, dash="dot", height=upper)
    _mark(figure, training.best_epoch, f"kept: epoch {training.best_epoch}", last, dash="solid", height=lower)
    figure.update_layout(
        showlegend=len(figure.data) > 1,
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
    )
    figure.update_xaxes(title={"text": "epoch", "font": {"size": 13}}, ticklabelstandoff=6, range=[0, last + 1])
    return figure


def places_of(vectors: np.ndarray) -> np.ndarray:
    """A place on a map for each item vector, float32 ``(N, 2)``, near ones together; always the same (t-SNE)."""
    perplexity = min(30, (len(vectors) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(vectors)


def map_plot(catalog: Catalog, places: np.ndarray, counts: np.ndarray) -> Figure:
    """Every film as a point, coloured by genre, its size by how often it was watched; the best known have titles.

    Args:
        catalog: N films.
        places: ``(N, 2)``.
        counts: int64 ``(N,)`` training ratings.
    """
    labels = [escaped(text) for text in catalog.texts(LABEL)]
    family = families(catalog)
    figure = blank("", height=MAP[1] + 60, left=4)
    sizes = np.round(4 + 10 * np.sqrt(counts / max(counts.max(), 1)), 1)
    for number, (name, (_, colour)) in enumerate(FAMILIES.items()):
        rows = np.flatnonzero(family == number)
        figure.add_scatter(
            x=_short(places[rows, 0]),
            y=_short(places[rows, 1]),
            name=name,
            mode="markers",
            marker={"size": sizes[rows].tolist(), "color": colour, "opacity": 0.85, "line": {"width": 0}},
            text=[f"{labels[row]}<br>{counts[row]} ratings" for row in rows],
            hovertemplate="%{text}<extra></extra>",
        )
    named = _spread(places, counts, catalog.titles)
    titles = catalog.titles
    figure.add_scatter(
        x=_short(places[named, 0]),
        y=_short(places[named, 1]),
        mode="text",
        text=[escaped(titles[row]) for row in named],
        textposition="top center",
        textfont={"size": 11},
        hoverinfo="skip",
        showlegend=False,
    )
    figure.update_layout(
        showlegend=True,
        margin={"l": 4, "r": 4, "t": 4, "b": 4},
        legend={"orientation": "h", "y": -0.02, "x": 0, "itemsizing": "constant", "font": {"size": 13}},
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure


def families(catalog: Catalog) -> np.ndarray:
    """Position in `FAMILIES` of each film, int64 ``(N,)``; the last where none fits."""
    kinds = [genres for genres, _ in FAMILIES.values()]
    tags = [set(text.split(", ")) for text in catalog.texts("[{genres}]")]
    return np.array([next((number for number, kind in enumerate(kinds) if kind & tag), len(kinds) - 1) for tag in tags])


def _mark(figure: Figure, epoch: float, words: str, last: int, *, dash: str, height: float) -> None:
    """A line at an epoch, its words towards the middle of the picture."""
    anchor = "right" if epoch > last / 2 else "left"
    said = {"text": words, "xanchor": anchor, "y": height, "showarrow": False}
    figure.add_vline(x=epoch, line={"dash": dash, "width": 1, "color": OTHERS}, annotation=said)


def _spread(places: np.ndarray, counts: np.ndarray, titles: list[str]) -> list[int]:
    """The most watched films whose titles do not lie over one another on a wide screen."""
    box = (places - places.min(axis=0)) / np.ptp(places, axis=0) * MAP
    chosen: list[int] = []
    for row in np.argsort(-counts, kind="stable"):
        width = [HALF_LETTER * (len(titles[row]) + len(titles[other])) + 8 for other in chosen]
        apart = np.abs(box[chosen] - box[row]) if chosen else np.empty((0, 2))
        edge = HALF_LETTER * len(titles[row])
        inside = edge < box[row, 0] < MAP[0] - edge and box[row, 1] < MAP[1] - 20
        if inside and ((apart[:, 0] > width) | (apart[:, 1] > 26)).all():
            chosen.append(int(row))
        if len(chosen) == NAMED:
            break
    return chosen


def _short(values: np.ndarray) -> list[float]:
    return [round(float(value), 2) for value in values]
