"""How a log becomes training data and questions with known answers; `docs/protocols.md` tells them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from towers.catalog import Catalog
from towers.errors import InputError
from towers.history import Histories
from towers.interactions import Interactions, Positive
from towers.tables import mask
from training.measuring.splits import Questions, RatingSplit, Split, among, pairs

WORDS = ("train", "validation", "test")  # what a column `split` may say
SHORTEST = 5  # events from which on a fifth of them is at least one

NOTHING_TO_ASK = "no event to ask for"
NOTHING_NEW = "nothing new to them"
NO_HISTORY = "no history"


def leave_one_out(histories: Histories) -> Split:
    """Each person's last event is the test target, the one before it the validation target, the rest training.

    The history of a test question includes the validation item. Nothing is refitted: ``refit is train``, as is usual
    with this protocol. People with fewer than three events only train.

    Raises:
        InputError: nobody has three events, or nobody is left to ask.
    """
    asked = histories.lengths >= 3
    if not asked.any():
        raise InputError(f"leave-one-out needs people with at least 3 events, none of {len(histories)} has them")
    last = histories.offsets[1:][asked] - 1
    test, validation = _at(histories, last), _at(histories, last - 1)
    train = ~(validation | test)
    return _split(
        histories,
        train=train,
        refit=None,
        validation=_Part(train, validation),
        test=_Part(~test, test),
        too_short=int((~asked).sum()),
        ties=_ties(histories, last - 1, last),
    )


def temporal(histories: Histories, test: float = 0.1, validation: float = 0.1) -> Split:
    """One cut in time for everybody: the last events of all are the test, those before them validation.

    A period begins at a time and holds all events from that second on, so events at the very time of a cut lie after
    it, and a period holds its share or a little more. People are asked once: the history is all they did before the
    period, the targets are all items in it that are new to them. A person without any event before the test period is
    a newcomer; one without any before the validation period is left out of validation.

    Args:
        histories: with times.
        test, validation: shares of all events, above 0 and together below 1.

    Raises:
        InputError: no times, shares that leave no room, equal times that leave a part without events, or nobody is
            left to ask.
    """
    times = histories.times
    if times is None:
        raise InputError("a cut in time needs times, and the log has none: give it a timestamp, or use leave-one-out")
    if not (test > 0 and validation > 0 and test + validation < 1):
        raise InputError(f"shares must be above 0 and together below 1, got test={test} and validation={validation}")
    ordered = np.sort(times)
    distinct = int(np.count_nonzero(np.diff(ordered))) + 1
    if distinct < 3:
        raise InputError(f"a cut in time needs at least 3 different times, got {distinct} in {len(times)} events")
    begins, ends = (float(ordered[-max(1, round(share * len(times)))]) for share in (test + validation, test))
    for name, start, time in (("training", ordered[0], begins), ("validation", begins, ends)):
        if start == time:
            raise InputError(
                f"the {name} part would have no event, since too many of the {len(times):,} events carry the time "
                f"{time:.0f} s; choose other shares"
            )
    train, refit = times < begins, times < ends
    return _split(
        histories,
        train=train,
        refit=refit,
        validation=_Part(train, refit & ~train),
        test=_Part(refit, ~refit),
        newcomers=True,
        cuts=(begins, ends),
    )


def cold_items(histories: Histories, n_items: int, share: float = 0.1, seed: int = 0) -> Split:
    """Items that nobody has an event with when the model is trained: can they be recommended?

    Two different random shares of the items that have events are cold, one for test and one for validation. Of each
    person's events, the last fifth (rounded down) is the test part and the fifth before it validation; people with
    fewer than five events only train. Models are chosen on the earlier events, without either cold share, and refitted
    on all before the test part, without the test's cold share. Histories are the training events of the same stage;
    targets are the items of the part that are new to the person, those of the test's cold share in the test only.

    Args:
        histories: in order; times are not needed.
        n_items: N, items in the catalog.
        share: of the items with events, for each draw; above 0, below 0.5.
        seed: of the draw.

    Raises:
        InputError: too few items or events, a share out of range, or nobody is left to ask.
    """
    if histories.items.max(initial=-1) >= n_items:
        raise InputError(f"a history holds item row {histories.items.max()}, the catalog has {n_items} items")
    if not 0 < share < 0.5:
        raise InputError(f"the share of cold items must be above 0 and below 0.5, got {share}")
    asked = histories.lengths >= SHORTEST
    if not asked.any():
        raise InputError(f"cold items need people with at least {SHORTEST} events, none of {len(histories)} has them")
    cold, cold_then = _draw(histories, n_items, share, seed)

    fifth = np.where(asked, histories.lengths // 5, 0)
    tested = histories.offsets[1:] - fifth
    chosen = tested - fifth
    place = np.arange(len(histories.items))
    before, earlier = place < tested[histories.people], place < chosen[histories.people]
    warm = ~cold[histories.items]
    train = earlier & warm & ~cold_then[histories.items]
    return _split(
        histories,
        train=train,
        refit=before & warm,
        validation=_Part(train, before & ~earlier & warm, met=earlier),
        test=_Part(before & warm, ~before, met=before),
        cold=cold,
        too_short=int((~asked).sum()),
        ties=_ties(histories, chosen[asked], tested[asked]),
        seed=seed,
    )


def given(histories: Histories, words: pa.Array | pa.ChunkedArray | Sequence[str | None]) -> Split:
    """The split that comes with the data, by one word for each event: ``train``, ``validation`` or ``test``.

    Histories are the events of the parts before (for test: train and validation), targets the items of the part that
    are new to the person. People without any event in train and validation are newcomers. Where no event says
    ``validation``, it is the last training event of each person who has two.

    Args:
        histories: N events.
        words: the word of each event, in the order of `histories`; `split_words` reads them off a log.

    Raises:
        InputError: other words, another number of them, no training or no test event, or nobody is left to ask.
    """
    part = {word: mask(pc.fill_null(pc.equal(_checked(words, len(histories.items)), word), False)) for word in WORDS}
    for word in ("train", "test"):
        if not part[word].any():
            raise InputError(f"a given split needs events that say {word!r}, none of {len(histories.items):,} does")
    more: dict[str, Any] = {}
    if not part["validation"].any():
        training = histories.keep(part["train"])
        asked = training.lengths >= 2
        last = training.offsets[1:][asked] - 1
        more = {"too_short": int((~asked).sum()), "ties": _ties(training, last)}
        part["validation"] = _at(histories, np.flatnonzero(part["train"])[last])
    test, validation = part["test"], part["validation"]
    train = ~(validation | test)
    return _split(
        histories,
        train=train,
        refit=~test,
        validation=_Part(train, validation),
        test=_Part(~test, test),
        newcomers=True,
        **more,
    )


def split_words(log: Interactions, catalog: Catalog, *, positive: Positive | None = None) -> pa.Array:
    """The column `split` of a log in the order of the events of ``log.histories(catalog, positive=positive)``.

    Raises:
        InputError: the log has no such column, and what `Interactions.histories` raises.
    """
    if "split" not in log.table.column_names:
        raise InputError(
            f"a split that is given says train, validation or test for each event, and {log.lacks('split')}"
        )
    # The words travel as the events' texts, so that whatever orders the events orders them, too.
    others = [name for name in log.table.column_names if name != "text"]
    table = log.table.select(others).append_column("text", log.table["split"])
    return replace(log, loaded=replace(log.loaded, table=table)).histories(catalog, positive=positive)[1].texts


def last_event(histories: Histories) -> tuple[Histories, Questions]:
    """Everything but each person's last event, and a question that asks for it; for choosing while training.

    People with fewer than two events keep theirs and are not asked.

    Raises:
        InputError: nobody has two events.
    """
    asked = histories.lengths >= 2
    if not asked.any():
        raise InputError(f"validation needs people with at least 2 events, none of {len(histories)} has them")
    last = _at(histories, histories.offsets[1:][asked] - 1)
    return histories.keep(~last), _ask(histories, _Part(~last, last)).questions


def random_tenth(histories: Histories, seed: int) -> RatingSplit:
    """Hold out a tenth of the rated events, drawn without regard to person or time; unrated events train.

    Raises:
        InputError: fewer than two events have a rating.
    """
    rated = np.flatnonzero(~np.isnan(histories.ratings))
    if len(rated) < 2:
        raise InputError(f"holding out ratings needs at least 2 of them, got {len(rated)}")
    held = np.sort(np.random.default_rng(seed).permutation(rated)[: max(1, len(rated) // 10)])
    keep = np.ones(len(histories.items), bool)
    keep[held] = False
    return RatingSplit(histories.keep(keep), histories.people[held], histories.items[held], histories.ratings[held])


class _Part(NamedTuple):
    """Events of a part, bool ``(N,)`` each.

    Args:
        past: what the histories show.
        asked: what is asked for, as far as it is new.
        met: what makes an item no news to a person; default: `past`.
    """

    past: np.ndarray
    asked: np.ndarray
    met: np.ndarray | None = None


class _Asked(NamedTuple):
    """Questions about people with a history, those about people without, and what is not asked."""

    questions: Questions
    newcomers: Questions
    repeats: int
    left_out: dict[str, int]


def _split(
    log: Histories,
    *,
    train: np.ndarray,
    refit: np.ndarray | None,
    validation: _Part,
    test: _Part,
    newcomers: bool = False,
    **more: Any,
) -> Split:
    """The parts as histories and questions; masks are bool ``(N,)`` events, and no `refit` means that of `train`."""
    chosen, reported = _ask(log, validation), _ask(log, test)
    left_out = {"validation": chosen.left_out, "test": reported.left_out}
    if newcomers:
        left_out["test"] = {**left_out["test"], NO_HISTORY: 0}
    for name, part in {"validation": chosen, "test": reported}.items():
        if not len(part.questions):
            why = ", ".join(f"{count:,} have {reason}" for reason, count in part.left_out.items() if count)
            raise InputError(f"the {name} part has nobody left to ask: of {len(log):,} people {why or 'there is none'}")
    training = log.keep(train)
    return Split(
        log=log,
        train=training,
        refit=training if refit is None else log.keep(refit),
        validation=chosen.questions,
        test=reported.questions,
        newcomers=reported.newcomers if newcomers and len(reported.newcomers) else None,
        repeats=chosen.repeats + reported.repeats,
        left_out=left_out,
        **more,
    )


def _ask(log: Histories, part: _Part) -> _Asked:
    """What does each person do next that is new to them?"""
    new = _news(log, part.asked, part.past if part.met is None else part.met)
    past, targets = log.keep(part.past), log.keep(new)
    people = np.flatnonzero(targets.lengths)
    everyone = Questions(people, past.take(people), targets.take(people))
    known = everyone.histories.lengths > 0
    with_events = int(log.keep(part.asked).lengths.astype(bool).sum())
    left_out = {
        NOTHING_TO_ASK: len(log) - with_events,
        NOTHING_NEW: with_events - len(people),
        NO_HISTORY: int((~known).sum()),
    }
    repeats = int(part.asked.sum() - new.sum())
    return _Asked(everyone.take(np.flatnonzero(known)), everyone.take(np.flatnonzero(~known)), repeats, left_out)


def _news(log: Histories, asked: np.ndarray, met: np.ndarray) -> np.ndarray:
    """bool ``(N,)``: the first event asked for of each item that the person has not met."""
    keys = pairs(log)
    found = np.flatnonzero(asked)
    found = found[~among(keys[found], keys[met])]
    return _at(log, found[np.unique(keys[found], return_index=True)[1]])


def _at(log: Histories, places: np.ndarray) -> np.ndarray:
    """bool ``(N,)`` that holds at these places of the flat arrays."""
    chosen = np.zeros(len(log.items), bool)
    chosen[places] = True
    return chosen


def _ties(log: Histories, *borders: np.ndarray) -> int:
    """People one of whose borders, places int64 ``(P,)`` of the event after it, has the same time on both sides."""
    if log.times is None:
        return 0
    return int(np.any([log.times[after - 1] == log.times[after] for after in borders], axis=0).sum())


def _draw(histories: Histories, n_items: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of items with events that share none, bool ``(N,)`` each."""
    active = np.flatnonzero(np.bincount(histories.items, minlength=n_items))
    if len(active) < 3:
        raise InputError(f"cold items need at least 3 items with events, got {len(active)}")
    count = max(1, round(share * len(active)))
    drawn = np.random.default_rng(seed).permutation(active)[: 2 * count].reshape(2, count)
    first, second = np.zeros((2, n_items), bool)
    first[drawn[0]] = second[drawn[1]] = True
    return first, second


def _checked(words: pa.Array | pa.ChunkedArray | Sequence[str | None], count: int) -> pa.Array | pa.ChunkedArray:
    """The words as Arrow strings, one for each of `count` events and none but `WORDS`."""
    if not isinstance(words, pa.Array | pa.ChunkedArray):
        words = pa.array(words, pa.large_string())
    if len(words) != count:
        raise InputError(f"a given split needs one word for each event, got {len(words):,} for {count:,} events")
    found = {entry["values"]: entry["counts"] for entry in pc.value_counts(words).to_pylist()}
    if others := {word: events for word, events in found.items() if word not in WORDS}:
        named = ", ".join(f"{'none' if word is None else repr(word)} ({n:,} events)" for word, n in others.items())
        raise InputError(f"the split column says {named}; the words it may say are {', '.join(WORDS)}")
    return words
