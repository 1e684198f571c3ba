"""python -m benchmarks.explain [--model DIR] [--people N] [--save]

Reasons on MovieLens-100K: what an item's score loses without the past films that its reason names, without as many at
random, and without those most similar to it; the same for words; whether all parts add up; and what it takes. A model
is trained for a few epochs, once, and kept.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.movielens_jobs import TEMPLATE
from benchmarks.record import Record, plain
from indexing.build import build_index
from indexing.index import ItemIndex
from serving.explain import Explained, score_parts
from serving.explanation import Explanation
from serving.people import People
from serving.reading import Question, read
from serving.retriever import Retriever
from towers.catalog import Catalog
from towers.interactions import Interactions
from towers.model import TwoTower
from towers.movielens import movielens_100k
from towers.recent import Recent
from training.measuring.metrics import bootstrap, paired_difference
from training.trainer import train

RECIPE = {"item": {"template": TEMPLATE}, "train": {"epochs": 6, "evaluate_every": 3, "text_epochs": 1}}
REMOVED, DRAWS = (1, 3), 3  # past films that are left out; random choices of as many
THREADS = 2
PLACES = 10  # the explained film is one of the first so many


SENTENCES, SENTENCE = 100, "{title}, {genres}"
QUICK, NEXT, WORDS = "items and contents", "the next item of a person", "words and three counterfactuals"


class Asked(NamedTuple):
    """Somebody, and why a film is recommended to them."""

    user: Any
    reason: Explanation


class Dropped(NamedTuple):
    """What a score loses: without what the reason names, without as much at random, without what is most similar."""

    named: np.ndarray
    random: np.ndarray
    similar: np.ndarray


class World:
    """People of a log and their scores, as they would be with fewer films."""

    def __init__(self, model: TwoTower, index: ItemIndex, catalog: Catalog, log: Interactions) -> None:
        self.model, self.catalog = model, catalog
        vectors = index.vectors[index.ids.rows(catalog.ids.array)]
        self.memory = replace(model.memory(catalog, vectors), read=Recent(100))
        self._people = People(log, catalog, np.ones(len(catalog), bool), model.config.data)

    def question(self, user: Any) -> Question:
        """Somebody as they are."""
        person = self._people.person(user)
        return Question(person, person.history, self.memory, None)

    def score(self, row: int, question: Question) -> float:
        """The score of a film for somebody, without what is alike for everybody."""
        reading = read(self.model, question)
        item = Explained(row, self.memory.vectors[row], {})
        return 0.0 if reading is None else sum(score_parts(self.model, item, question, reading).values())

    def loss(self, row: int, question: Question, rows: Sequence[int]) -> float:
        """What a film's score loses without some past films."""
        less = question
        for one in rows:
            less = less.without(one)
        return self.score(row, question) - self.score(row, less)


def main() -> None:
    """Run the benchmark."""
    options = _options()
    record = Record("explain")
    torch.set_num_threads(THREADS)
    catalog, log = movielens_100k()
    if not (options.model / "manifest.json").exists():
        train(catalog, log, recipe=RECIPE, out=options.model)
    model = TwoTower.load(options.model)
    index = build_index(model, catalog)
    shop = Retriever(model, index, catalog, log)
    world = World(model, index, catalog, log)
    asked, seconds, off = ask(shop, draw(log, catalog, model, options.people))
    dropped = [delete(world, asked, removed) for removed in REMOVED]
    words = delete_words(shop, catalog.texts(SENTENCE)[:: max(1, len(catalog) // SENTENCES)][:SENTENCES])
    named = {f"{removed} past items": one for removed, one in zip(REMOVED, dropped, strict=True)} | {"words": words}
    record.rows = [deletion_row(name, one) for name, one in named.items()]
    record.rows += [completeness_row([one.reason for one in asked], off), *time_rows(seconds)]
    record.notes = {
        "protocol": f"{len(asked)} people drawn from those with more than {max(REMOVED)} liked films, one of the first "
        f"{PLACES} that are recommended to each; removed are the films that the reason names first, as many at random "
        f"(mean of {DRAWS} draws), and those whose vectors are most similar to the film's; the score is computed anew "
        "from what is left, text and predicted rating included, in logits; 95 % intervals by bootstrap over people, "
        "differences paired; words: titles with genres as sentences, for the film recommended first, what "
        "BERT's part loses without the word that is named first, and without another one at random; times: of two "
        "threads, after the person was asked for recommendations, ms as they pass and cpu ms as the processor has "
        "spent; a model of 6 epochs, its text reader of 1",
        "differences": differences(named),
    }
    _show(record)
    record.finish(save=options.save)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("runs/explain/model"), help="trained there where none is")
    parser.add_argument("--people", type=int, default=150, help="how many")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    return parser.parse_args()


def draw(log: Interactions, catalog: Catalog, model: TwoTower, most: int) -> list[Any]:
    """People with enough past films that the named ones can be compared with others."""
    users, histories = log.known(catalog).histories(catalog, positive=model.config.data)
    enough = np.flatnonzero(histories.lengths > 2 * max(REMOVED))
    return users.take(np.random.default_rng(0).permutation(enough)[:most])


def ask(shop: Retriever, people: Sequence[Any]) -> tuple[list[Asked], dict[str, np.ndarray], float]:
    """A film and its reason for each, seconds ``(people, 2)`` by what was asked, and how far a score was off."""
    rng = np.random.default_rng(0)
    asked, off = [], 0.0
    seconds: dict[str, list[tuple[float, float]]] = {QUICK: [], NEXT: [], WORDS: []}
    shop.explain(shop.recommend(user=people[0], k=1)[0].item, text="warm up", words=True)
    for user in people:
        found = shop.recommend(user=user, k=PLACES)
        first, other = rng.permutation(len(found))[:2]
        for name, place, words in ((QUICK, first, False), (NEXT, other, False), (WORDS, first, True)):
            started = time.perf_counter(), time.process_time()
            reason = shop.explain(found[place].item, user=user, words=words, counterfactuals=3 * words)
            seconds[name].append((time.perf_counter() - started[0], time.process_time() - started[1]))
        asked.append(Asked(user, reason))
        off = max(off, abs(reason.score - found[int(first)].score))
    return asked, {name: np.array(spent) for name, spent in seconds.items()}, off


def delete(world: World, asked: Sequence[Asked], removed: int) -> Dropped:
    """What scores lose without so many past films."""
    rng, losses = np.random.default_rng(0), []
    for user, reason in asked:
        question, row = world.question(user), int(world.catalog.rows([reason.item])[0])
        past = world.catalog.rows([one.item for one in reason.past if one.item is not None])
        cosines = (world.memory.vectors[past] @ world.memory.vectors[row]).numpy()
        similar = past[np.argsort(-cosines, kind="stable")[:removed]]
        random = [world.loss(row, question, rng.permutation(past)[:removed]) for _ in range(DRAWS)]
        named = world.loss(row, question, past[:removed])
        losses.append((named, float(np.mean(random)), world.loss(row, question, similar)))
    return Dropped(*np.array(losses).T)


def delete_words(shop: Retriever, sentences: Sequence[str]) -> Dropped:
    """What BERT's part of a score loses without a word of a sentence; there is no most similar word."""
    rng, losses = np.random.default_rng(0), []
    for sentence in sentences:
        written = sentence.replace(",", " ").split()
        item = shop.recommend(text=sentence, k=1)[0].item
        reason = shop.explain(item, text=sentence, counterfactuals=0)
        values = {word.word: word.value for word in reversed(reason.words)}
        known = [place for place, word in enumerate(written) if word.lower() in values]
        if len(known) < 2:
            continue
        named = max(known, key=lambda place: values[written[place].lower()])
        other = rng.choice([place for place in known if place != named])
        without = [" ".join(word for n, word in enumerate(written) if n != place) for place in (named, other)]
        whole = _by_text(shop, item, " ".join(written))
        losses.append([whole - _by_text(shop, item, text) for text in without])
    named_losses, random_losses = np.array(losses).T
    return Dropped(named_losses, random_losses, np.full(len(losses), np.nan))


def _by_text(shop: Retriever, item: Any, sentence: str) -> float:
    """BERT's part of a score."""
    parts = shop.explain(item, text=sentence, words=False, counterfactuals=0).parts
    return next(one.value for one in parts if one.name == "text")


def deletion_row(name: str, dropped: Dropped) -> dict[str, Any]:
    """What was lost, with intervals over people."""
    metrics = {"deletion": plain(bootstrap(dropped.named)), "random_deletion": plain(bootstrap(dropped.random))}
    if not np.isnan(dropped.similar).all():
        metrics["similar_deletion"] = plain(bootstrap(dropped.similar))
    return {"method": "reason", "split": name, "seed": 0, "metrics": metrics}


def differences(named: Mapping[str, Dropped]) -> list[dict[str, Any]]:
    """What the reason names less each of the others, on the same people."""
    return [
        {"metric": "deletion", "seed": 0, "split": name, "ours": "reason", "theirs": other, "difference": plain(by)}
        for name, one in named.items()
        for other, theirs in (("random", one.random), ("most similar", one.similar))
        if not np.isnan(theirs).all()
        for by in [paired_difference(one.named, theirs)]
    ]


def completeness_row(reasons: Sequence[Explanation], off: float) -> dict[str, Any]:
    """How far sums are off, at most, and the remainder's share of the score."""
    gaps = [abs(sum(part.value for part in one.parts) - one.score) for one in reasons]
    gaps += [abs(_leaves(one) - one.score) for one in reasons]
    share = np.array([abs(one.remainder / one.score) for one in reasons])
    metrics: dict[str, Any] = {
        "sum off, at most": float(f"{max(gaps):.2g}"),
        "score off, at most": float(f"{off:.2g}"),
        "remainder, median share": round(float(np.median(share)), 4),
        "remainder, p95 share": round(float(np.quantile(share, 0.95)), 4),
        "confidence, median": round(float(np.median([one.confidence for one in reasons])), 3),
    }
    return {"method": "reason", "split": "sums", "seed": 0, "metrics": metrics}


def _leaves(reason: Explanation) -> float:
    """Past items, words, what neither reads, and the remainder."""
    read_by = {"sequence": reason.past, "text": reason.words}
    rest = sum(part.value for part in reason.parts if not read_by.get(part.name))
    return sum(one.value for leaves in read_by.values() for one in leaves) + rest + reason.remainder


def time_rows(seconds: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Milliseconds as they pass, and of the processor."""
    rows = []
    for name, spent in seconds.items():
        passed, worked = (1e3 * spent).T
        metrics = {
            "ms": round(float(np.median(passed)), 1),
            "p95 ms": round(float(np.quantile(passed, 0.95)), 1),
            "cpu ms": round(float(np.median(worked)), 1),
            "p95 cpu ms": round(float(np.quantile(worked, 0.95)), 1),
        }
        rows.append({"method": "reason", "split": name, "seed": 0, "metrics": metrics})
    return rows


def _show(record: Record) -> None:
    screen = Console(stderr=True, width=140)
    table = Table("what", "measured")
    for row in record.rows:
        shown = (f"{name} {value[0] if isinstance(value, list) else value}" for name, value in row["metrics"].items())
        table.add_row(row["split"], ", ".join(shown))
    screen.print(table)
    for entry in record.notes["differences"]:
        value, low, high = entry["difference"]
        screen.print(f"{entry['split']:16} less {entry['theirs']:14} {value:+.4f}  [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__":
    main()
