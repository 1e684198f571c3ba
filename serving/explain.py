"""Why an item for a person: the parts of its score, pasts with one item less, and what each word adds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from indexing.hits import Hits
from serving.explanation import NAMED, Counterfactual, Explanation, Part, PastItem, Word, share
from serving.reading import SMALLEST, LeftOut, Question, Reading, leave_out, read
from serving.words_read import token_values, words_of
from towers.catalog import Catalog
from towers.embed import NoCache
from towers.errors import InputError
from towers.fusion import added
from towers.history import NOTHING_KNOWN
from towers.ids import Id
from towers.model import TwoTower
from towers.recent import Recent

SHOWN = "what was shown"  # the title of a picture or a sound that a question came with
OTHER = "other"  # of an item's vector: what its content in the catalog does not account for
TINY = 1e-5
ITEMS, PEOPLE = 4096, 64  # of which what was found out is kept, so that the next reason is quicker

Rank = Callable[[Question, np.ndarray], Hits]


@dataclass(frozen=True)
class Explained:
    """The item that is explained.

    Args:
        row: in the catalog.
        vector: ``(D,)`` as the index has it.
        bonuses: what is added to its cosine with the person, by name.
    """

    row: int
    vector: Tensor
    bonuses: Mapping[str, float]


def score_parts(model: TwoTower, item: Explained, question: Question, reading: Reading) -> dict[str, float]:
    """What each reader and each bonus adds to the score of an item, by name."""
    interest, scale = _nearest(reading, item), float(model.scale.detach())
    parts = {name: scale * float(part[interest] @ item.vector) for name, part in reading.parts.items()}
    parts |= {name: scale * bonus for name, bonus in item.bonuses.items()}
    if weight := float(model.rating.weight):
        ratings = model.rate(question.person.history, question.memory, np.array([[item.row]]))
        parts["rating"] = weight * float(ratings[0, 0])
    return parts


class Explainer:
    """Explains items to one person at a time.

    Args:
        model: both towers.
        catalog: N items.
        rank: a question and its queries, ``(1, D)`` or ``(1, K, D)``, to what is recommended, in catalog rows.
    """

    def __init__(self, model: TwoTower, catalog: Catalog, rank: Rank) -> None:
        self._model, self._catalog, self._rank = model.eval(), catalog, rank
        self._scale = float(model.scale.detach())
        self._item_parts: Recent[dict[str, Tensor]] = Recent(ITEMS)
        self._left_out: Recent[LeftOut] = Recent(PEOPLE)

    def forget(self) -> None:
        """Drop what is kept of people."""
        self._left_out.clear()

    def explain(self, item: Explained, question: Question, *, words: bool, counterfactuals: int) -> Explanation:
        """The reason for one item.

        Args:
            item: the one to explain.
            question: who asks.
            words: whether to tell what each word adds.
            counterfactuals: how many past items are left out by themselves, at most.

        Raises:
            InputError: a person of whom nothing is known.
        """
        reading = read(self._model, question)
        if reading is None:
            raise InputError(NOTHING_KNOWN)
        hits = self._rank(question, _queries(reading))
        interest = _nearest(reading, item)
        parts = score_parts(self._model, item, question, reading)
        whole = sum(map(abs, parts.values()))
        past = self._past(item, question, reading)
        told = self._words(item, question, reading) if words else []
        return Explanation(
            query=question.person.name,
            item=self._catalog.ids[item.row],
            title=self._catalog.titles[item.row],
            score=sum(parts.values()),
            place=_place(hits, item),
            depth=hits.k,
            parts=_as_parts(parts),
            contents=_as_parts(self._contents(item, reading)),
            past=tuple(PastItem(*self._named(row), drop, value, share(value, whole)) for row, drop, value in past),
            words=tuple(Word(word, source, value, share(value, whole)) for word, source, value in told),
            counterfactuals=tuple(self._otherwise(item, question, [row for row, *_ in past[:counterfactuals]])),
            remainder=_remainder(parts, [value for *_, value in past], [value for *_, value in told]),
            confidence=_standing_out([drop for _, drop, _ in past] or [value for *_, value in told]),
            interest=None if len(reading.query) == 1 else 1 + interest,
            unknown=question.person.unknown,
            met=item.row in question.person.seen,
        )

    def _contents(self, item: Explained, reading: Reading) -> dict[str, float]:
        """What each kind of the item's content adds to what its vector and the person's have in common."""
        query = self._scale * reading.query[_nearest(reading, item)]
        parts = self._item_parts.get(item.row, lambda: _item_parts(self._model, self._catalog, item.row))
        found = {name: float(query @ part) for name, part in parts.items()}
        other = float(query @ item.vector) - sum(found.values())
        return {**found, OTHER: other} if abs(other) > TINY else found

    def _past(self, item: Explained, question: Question, reading: Reading) -> list[tuple[int, float, float]]:
        """Past items, what is lost without each, and what each adds; the most telling first.

        A reader weighs one past item against the others, so that what is lost without each of them adds up to little:
        most of what they say they say together, and each is given an equal share of that (the egalitarian
        non-separable contribution value of Moulin, 1985). A reader that reads nothing adds 0, so nothing remains.
        """
        left = self._left_out.get(question.digest, lambda: leave_out(self._model, question))
        interest = _nearest(reading, item)
        if not len(left.rows):
            return []
        part = reading.parts[left.reader][interest]
        whole = self._scale * float(part @ item.vector)
        without = self._scale * float(part.norm()) * (left.vectors[:, interest] @ item.vector).cpu().numpy()
        drops = whole - without.astype(np.float64)
        values = drops + (whole - drops.sum()) / len(drops)
        order = np.argsort(-drops, kind="stable")
        return list(zip(*(column[order].tolist() for column in (left.rows, drops, values)), strict=True))

    def _words(self, item: Explained, question: Question, reading: Reading) -> list[tuple[str, Id | None, float]]:
        """Words that BERT read, the past item that each tells of, and what it adds; the most telling first.

        What a text says whose words are masked is shared among them equally, as in `_past`.
        """
        reader = self._model.user.text
        if "text" not in reading.parts or reader is None:
            return []
        part = reading.parts["text"][_nearest(reading, item)]
        tokens, events = _read_tokens(self._model, question)
        values, masked = token_values(reader, tokens, self._scale * part.norm() * item.vector)
        words, found = words_of(reader.encoder.tokenizer, tokens, events), []
        for word, places in words:
            event = events[places[0]]
            source = None if event < 0 else self._named(int(question.history.items[event]))[0]
            found.append((word, source, float(values[places].sum()) + masked / len(words)))
        return sorted(found, key=lambda one: -one[-1])

    def _otherwise(self, item: Explained, question: Question, rows: Sequence[int]) -> Iterator[Counterfactual]:
        """What would be without each of some past items, where anything were known of the person then."""
        for row in rows:
            less = question.without(row)
            reading = read(self._model, less)
            if reading is not None:
                place = _place(self._rank(less, _queries(reading)), item)
                score = sum(score_parts(self._model, item, less, reading).values())
                yield Counterfactual(*self._named(row), place, score)

    def _named(self, row: int) -> tuple[Id | None, str]:
        """Id and title of a past item."""
        if row >= len(self._catalog):
            return None, SHOWN
        return self._catalog.ids[row], self._catalog.titles[row]


@torch.inference_mode()
def _item_parts(model: TwoTower, catalog: Catalog, row: int) -> dict[str, Tensor]:
    """What each kind of an item's content, as far as it is there, adds to its vector ``(D,)``."""
    one, device = catalog.select(np.array([row])), model.log_scale.device
    contents, _ = model.contents(one, NoCache())
    parts = model.item.weighted(contents.to(device), model.id_rows(one).to(device))
    norm = added(parts).norm().clamp(min=SMALLEST)
    return {name: part[0] / norm for name, part in parts.items() if part.any()}


def _read_tokens(model: TwoTower, question: Question) -> tuple[list[int], list[int]]:
    """What BERT reads, and the event that each token tells of."""
    assert model.user.text is not None
    assert question.memory.text is not None
    if question.text:
        tokens = model.user.text.encoder.tokenize([question.text])[0]
        return tokens, [-1] * len(tokens)
    return question.memory.text.tokens(question.history)[0], question.memory.text.told(question.history)[0]


def _queries(reading: Reading) -> np.ndarray:
    """``(1, D)``, or ``(1, K, D)`` for several interests, as an index is searched."""
    query = reading.query.cpu().numpy()
    return query if len(query) == 1 else query[None]


def _nearest(reading: Reading, item: Explained) -> int:
    """The interest that an item is nearest to."""
    return int((reading.query @ item.vector).argmax())


def _place(hits: Hits, item: Explained) -> int | None:
    """From 1 on."""
    found = np.flatnonzero(hits.rows[0] == item.row)
    return 1 + int(found[0]) if len(found) else None


def _as_parts(values: Mapping[str, float]) -> tuple[Part, ...]:
    whole = sum(map(abs, values.values()))
    return tuple(Part(name, value, share(value, whole)) for name, value in values.items())


def _remainder(parts: Mapping[str, float], past: Sequence[float], words: Sequence[float]) -> float:
    """What neither past items, nor words, nor bonuses account for: the error of integrated gradients."""
    accounted = {"sequence": past, "text": words} if "sequence" in parts else {"text": past or words}
    read_by = {name: values for name, values in accounted.items() if values}
    return sum(parts[name] - sum(values) for name, values in read_by.items())


def _standing_out(losses: Sequence[float]) -> float:
    """The share of the first few, the largest first, in all that is above 0."""
    above = [max(loss, 0.0) for loss in losses]
    return sum(above[:NAMED]) / sum(above) if sum(above) else 0.0
