"""What an explanation says: what adds up to an item's score, what it would be otherwise, and that in a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from towers.ids import Id

READERS = {
    "sequence": "past items",
    "shown": "what was shown",
    "text": "words, read by BERT",
    "less": "like what they want less of",
    "popularity": "popular of late, or new",
    "words": "has the very words",
    "rating": "predicted rating",
}
CONTENTS = {"text": "what is written about it", "image": "its picture", "audio": "its sound", "id": "who met it"}
NAMED = 3  # past items or words that a reason names
CLEAR, SOME = 0.5, 0.2  # of `Explanation.confidence`
LITTLE = 0.1  # share below which a sentence passes a part over


@dataclass(frozen=True)
class Part:
    """Something that speaks for an item, or against it.

    Args:
        name: which, a key of `READERS` or `CONTENTS`.
        value: what it adds to the score.
        share: that over the sum of the absolute values of all of its kind, in [-1, 1].
    """

    name: str
    value: float
    share: float


@dataclass(frozen=True)
class PastItem:
    """An item of the history.

    Args:
        item: its id; None for a picture or a sound that the question came with.
        title: what to show.
        drop: what the part of the reader of past items loses without it; below 0 where it speaks against the item.
        value: `drop`, and an equal share of what the past items say only together, so that over all of them this adds
            up to that reader's part.
        share: `value` over the sum of the absolute values of all parts.
    """

    item: Id | None
    title: str
    drop: float
    value: float
    share: float


@dataclass(frozen=True)
class Word:
    """A word of the history's text, or of the sentence that was asked with.

    Args:
        word: as the tokenizer of the text reader knows it.
        item: which past item it tells of; None for a sentence, or for what is known of the person.
        value: what it adds to the score through the text reader.
        share: that over the sum of the absolute values of all parts.
    """

    word: str
    item: Id | None
    value: float
    share: float


@dataclass(frozen=True)
class Counterfactual:
    """What would be without one item in the history.

    Args:
        item, title: the one that is left out; it could then be recommended itself.
        place: of the explained item, from 1 on; None where it would not be among the first `Explanation.depth`.
        score: of the explained item.
    """

    item: Id | None
    title: str
    place: int | None
    score: float


@dataclass(frozen=True)
class Explanation:
    """Why an item for a person. All values are in units of the score that `Retriever.recommend` sorts by.

    The score is the sum of `parts`. It is also the sum of the past items, the words (or, where none were asked for, the
    text reader's part), the other parts, and `remainder`. Where BERT alone reads past items, the words tell once more
    what past items tell, and do not count beside them.

    Args:
        query: who or what was asked for, in words.
        item, title: what is explained.
        score: by the model's vectors, popularity of late, a text's own words and the predicted rating.
        place: the item's among what would be recommended, from 1 on; None where it is not among the first `depth`, or
            was met.
        depth: how many candidates are ranked.
        parts: what each reader and each bonus adds, see `READERS`.
        contents: what each kind of content of the item adds to what the readers' parts add up to, see `CONTENTS`.
        past: items of the history that were read, the most telling first.
        words: that were read, the most telling first; empty where none were asked for.
        counterfactuals: the first of `past`, each left out by itself.
        remainder: what no past item and no word accounts for: the error of integrated gradients in few steps, and
            rounding.
        confidence: how clearly the past items that the reason names stand out: the share of the first `NAMED` in what
            the score would lose without each of them, over all past items whose loss would lower it (for a text alone,
            the share of its first words in all that speak for the item). From 0 (nothing stands out) to 1.
        interest: which of the person's interests is nearest to the item and is explained, from 1 on; None where they
            have one query.
        unknown: items of the history that were set aside, as the catalog or the index lacks them.
        met: whether the person has met the item, which is therefore not recommended.
    """

    query: str
    item: Id
    title: str
    score: float
    place: int | None
    depth: int
    parts: tuple[Part, ...]
    contents: tuple[Part, ...]
    past: tuple[PastItem, ...]
    words: tuple[Word, ...]
    counterfactuals: tuple[Counterfactual, ...]
    remainder: float
    confidence: float
    interest: int | None = None
    unknown: tuple[Id, ...] = ()
    met: bool = False

    def named(self) -> tuple[PastItem, ...]:
        """The past items that the reason names: the first few of those without which the score would be lower."""
        return tuple(one for one in self.past[:NAMED] if one.drop > 0)

    def named_words(self) -> tuple[Word, ...]:
        """The words that the reason names, each once, those without letters and numbers passed over."""
        speaking = [one for one in self.words if one.value > 0 and any(map(str.isalnum, one.word))]
        first = {one.word: one for one in reversed(speaking)}
        return tuple(one for one in speaking if first[one.word] is one)[:NAMED]

    def sentence(self) -> str:
        """The reason for people."""
        if self.met:
            return f"{self.title}: it was met already, and is therefore not recommended."
        clauses = [self._because(), self._by_content(), *self._bonuses(), self._otherwise()]
        return f"{self.title}: " + "; ".join(filter(None, clauses)) + "."

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the sentence included."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {"sentence": self.sentence(), **plain}

    def table(self) -> Group:
        """The reason for a terminal."""
        head = Table(title=escape(self.query), title_justify="left", show_header=False, box=None)
        head.add_row(escape(self.sentence()))
        head.add_row(
            f"place {self._told(self.place)}, score {self.score:.3f}, confidence {self.confidence:.2f}, "
            f"not accounted for {self.remainder:+.3f}"
        )
        tables = [
            _table("what speaks for it", [(READERS[one.name], one) for one in self.parts]),
            _table("of the item", [(CONTENTS.get(one.name, one.name), one) for one in self.contents]),
            _table("of the past", [(one.title, one) for one in self.past[:10]]),
            _table("words", [(one.word, one) for one in self.words[:10]]),
            self._without(),
        ]
        return Group(head, *filter(None, tables))

    def _because(self) -> str:
        read = {one.name: one.share for one in self.parts}
        by_words = read.get("text", 0.0) >= LITTLE
        words = _listed([f'"{one.word}"' for one in self.named_words()]) if by_words else ""
        titles = _listed([one.title for one in self.named()])
        if words and read["text"] > read.get("sequence", 0.0):
            return f"because of {words}" + (f"; of the past, {titles} speak most for it" if titles else "")
        if not self.past:
            return "because of what was asked for"
        if read.get("sequence", read.get("text", 0.0)) < 0:
            return "the past as a whole speaks against it" + (f", for it {titles} above all" if titles else "")
        if not titles or self.confidence < SOME:
            return "it fits the past as a whole" + (f", {titles} above all" if titles else "")
        lead = "mostly" if self.confidence >= CLEAR else "among others"
        return f"{lead} because of {titles}" + (f", and of {words}" if words else "")

    def _by_content(self) -> str:
        kinds = sorted((one for one in self.contents if one.share >= LITTLE), key=lambda one: -one.share)
        names = [f"{CONTENTS.get(one.name, one.name)} ({one.share:.0%})" for one in kinds]
        return f"near by {_listed(names)}" if names else ""

    def _bonuses(self) -> Iterable[str]:
        said = {"popularity": "popular of late", "words": "it has the very words", "rating": "likely to be rated well"}
        return (said[one.name] for one in self.parts if one.name in said and one.share >= LITTLE)

    def _otherwise(self) -> str:
        """The counterfactual that changes the place most."""
        changed = [one for one in self.counterfactuals if one.place != self.place]
        if not changed or self.place is None:
            return ""
        most = max(changed, key=lambda one: self.depth + 1 if one.place is None else one.place)
        return f"without {most.title} it would be {_place(most.place, self.depth)} instead of {_place(self.place, 0)}"

    def _without(self) -> Table | None:
        if not self.counterfactuals:
            return None
        table = Table("without", "place", "score", title="otherwise", title_justify="left")
        for one in self.counterfactuals:
            place = _place(one.place, self.depth) if one.item == self.item else self._told(one.place)
            table.add_row(escape(one.title), place, f"{one.score:.3f}")
        return table

    def _told(self, place: int | None) -> str:
        """A place in words, which an item that was met has none of, whatever else is left out."""
        return "none, as it was met" if self.met else _place(place, self.depth)


def share(value: float, whole: float) -> float:
    """A value over a sum of absolute values; 0 where there is nothing."""
    return value / whole if whole else 0.0


def _table(title: str, rows: Sequence[tuple[str, Part | PastItem | Word]]) -> Table | None:
    if not rows:
        return None
    table = Table("", "adds", "share", title=title, title_justify="left")
    for name, one in rows:
        table.add_row(escape(name), f"{one.value:+.3f}", f"{one.share:.1%}")
    return table


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""


def _place(place: int | None, depth: int) -> str:
    """Such as 14th."""
    if place is None:
        return f"beyond the first {depth}"
    ending = "th" if place // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"
