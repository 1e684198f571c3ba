"""What a retriever answers: a ranked list of items with their scores, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from towers.ids import Id


@dataclass(frozen=True)
class Recommendation:
    """One item of an answer.

    Args:
        item: its id.
        title: what to show.
        score: how well it suits; what the list is sorted by, as far as steps do not weigh items against one another.
        retrieval: cosine of query and item, in [-1, 1], plus what popularity of late and a text's words are worth.
        rating: predicted rating on the scale of the log, or the probability of a click; None where the model
            has not learned any.
        interest: which of the person's interests is nearest to it, from 1 on; None where they have one query.
        places: where it stood after retrieval, and after each step of re-ranking, from 1 on.
        probability: with which it stands at its place, where a step drew lots; else None.
    """

    item: Id
    title: str
    score: float
    retrieval: float
    rating: float | None
    interest: int | None = None
    places: tuple[int, ...] = ()
    probability: float | None = None


@dataclass(frozen=True)
class Recommendations:
    """Items in their order, best first; a sequence of `Recommendation`.

    Args:
        query: who or what was asked for, in words.
        items: the answer.
        unknown: items of the history that were set aside, as the catalog or the index lacks them.
        reranked: whether predicted ratings had a say in the order.
        steps: what re-ranked it, in this order.
    """

    query: str
    items: tuple[Recommendation, ...]
    unknown: tuple[Id, ...] = ()
    reranked: bool = False
    steps: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Recommendation]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> Recommendation:
        return self.items[place]

    def table(self) -> Table:
        """The answer for a terminal."""
        table = Table(title=escape(self.query), title_justify="left", caption=self._caption(), caption_justify="left")
        table.add_column("", justify="right")
        table.add_column("item")
        table.add_column("title")
        rated = any(one.rating is not None for one in self)
        for name in ("rating", "retrieval", "score")[not rated :]:
            table.add_column(name, justify="right")
        for rank, one in enumerate(self, start=1):
            rating = () if one.rating is None else (f"{one.rating:.2f}",)
            numbers = (*rating, f"{one.retrieval:.3f}", f"{one.score:.3f}")
            table.add_row(str(rank), escape(str(one.item)), escape(one.title), *numbers)
        return table

    def to_json(self) -> dict[str, Any]:
        """The answer as plain values, the rank of each item included; what no item has is left out."""
        items = [{"rank": rank, **asdict(one), "places": list(one.places)} for rank, one in enumerate(self, start=1)]
        idle = [name for name in ("interest", "places", "probability") if all(not item[name] for item in items)]
        kept = [{name: value for name, value in item.items() if name not in idle} for item in items]
        steps = {"steps": list(self.steps)} if self.steps else {}
        return {"query": self.query, "reranked": self.reranked, **steps, "unknown": list(self.unknown), "items": kept}

    def _caption(self) -> str | None:
        told = []
        if set(self.steps) - {"rating"}:
            told.append(f"re-ranked: {', '.join(self.steps)}")
        if self.unknown:
            some = ", ".join(map(str, self.unknown[:3])) + (", …" if len(self.unknown) > 3 else "")
            told.append(f"{len(self.unknown)} without a vector set aside: {some}")
        return escape("; ".join(told)) or None
