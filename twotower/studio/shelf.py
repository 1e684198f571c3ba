"""`Shelf`: some tracks to pick from, and what the model makes of every choice of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from serving.retriever import Retriever
from towers.catalog import Catalog
from towers.embed import VectorCache
from towers.fusion import MaskedFusion
from towers.history import Histories
from towers.ids import Id
from towers.model import TwoTower

SIZE = 24  # tracks on the shelf
MOST = 3  # of them that may be picked together
SHOWN = 10  # tracks that are recommended


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """All that answers a person who picks tracks, with no model at hand.

    Args:
        rows: int64 ``(S,)`` catalog rows of the tracks on the shelf.
        picks: P times, the places on the shelf that are picked, rising.
        queries: float32 ``(P, D)`` what the user tower makes of a history of these tracks, in this order.
        parts: float32 ``(N, D)`` of each kind of content; they add up to the item vectors, so that their inner
            products with a query add up to the score.
    """

    rows: np.ndarray
    picks: list[tuple[int, ...]]
    queries: np.ndarray
    parts: dict[str, np.ndarray]


@dataclass(frozen=True)
class Answer:
    """A recommended track.

    Args:
        item: its id.
        title: its name.
        score: cosine of query and track.
        parts: what each kind of content adds to the score.
    """

    item: Id
    title: str
    score: float
    parts: dict[str, float]


def make_shelf(model: TwoTower, catalog: Catalog, heard: np.ndarray, seed: int) -> Shelf:
    """Draw the shelf and ask the model about every choice of one to three of its tracks.

    Args:
        model: without id vectors and without a text reader, its parts fused by gates.
        catalog: N tracks.
        heard: int64 rows of the tracks to draw from.
        seed: of the draw.
    """
    rows = np.sort(np.random.default_rng(seed).choice(heard, min(SIZE, len(heard)), replace=False))
    parts = parts_of(model, catalog)
    memory = model.memory(catalog, model.embed_items(catalog))
    picks = [pick for count in range(1, MOST + 1) for pick in combinations(range(len(rows)), count)]
    queries = model.encode(Histories.of([rows[list(pick)].tolist() for pick in picks]), memory)
    return Shelf(rows=rows, picks=picks, queries=queries, parts=parts)


@torch.inference_mode()
def parts_of(model: TwoTower, catalog: Catalog) -> dict[str, np.ndarray]:
    """What each kind of content gives to the item vectors, see `Shelf`.

    An item vector is ``unit(sum of gate * projection)``, so each part is its term of the sum, divided by the length of
    the whole sum.
    """
    contents, _ = model.contents(catalog, VectorCache())
    fusion = model.item.fusion
    assert isinstance(fusion, MaskedFusion)
    terms = {
        name: fusion.gate(name) * model.item.project(name)(vectors) * contents.present[name][:, None]
        for name, vectors in contents.vectors.items()
    }
    length = torch.stack(list(terms.values())).sum(0).norm(dim=-1, keepdim=True)
    return {name: (term / length.clamp(min=1e-12)).numpy() for name, term in terms.items()}


def ask(shelf: Shelf, shop: Retriever, catalog: Catalog, pick: tuple[int, ...]) -> list[Answer]:
    """What `shop` recommends to somebody who picked these places of the shelf, and why."""
    history = [catalog.ids[row] for row in shelf.rows[list(pick)]]
    query = shelf.queries[shelf.picks.index(pick)]
    found = shop.recommend(history=history, k=SHOWN)
    rows = catalog.rows([one.item for one in found])
    return [
        Answer(
            one.item, one.title, one.retrieval, {name: float(part[row] @ query) for name, part in shelf.parts.items()}
        )
        for row, one in zip(rows, found, strict=True)
    ]
