"""python -m benchmarks.cold_people [--epochs N] [--out DIR] [--validation] [--save]

What a few questions tell of somebody new: MovieLens-100K, people that no training has seen. Half of what each of them
rated answers the questions, the films they liked in the other half are to be found: Recall@20 after 0, 1, 3, 5 and 10
answers, asked adaptively and at random, beside the most popular films. The sequence reader only, few epochs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.movielens_jobs import TEMPLATE
from benchmarks.record import Record, plain
from indexing.build import build_index
from serving.questionnaire import LIKES_FROM, Questionnaire
from serving.retriever import Retriever
from towers.catalog import Catalog
from towers.history import Histories
from towers.ids import Id
from towers.interactions import USER_ID, Interactions
from towers.model import TwoTower
from towers.movielens import movielens_100k
from training.config import Recipe
from training.measuring.metrics import bootstrap, paired_difference
from training.measuring.protocols import last_event
from training.trainer import fit

K, COUNTS = 20, (0, 1, 3, 5, 10)
ADAPTIVE, RANDOM, POPULAR = "adaptive", "random-questions", "most-popular"
DRAWS = 3  # of random questions for each person

Ask = Callable[[dict[Id, bool | None]], Id | None]


def main() -> None:
    """Run the benchmark."""
    options = _options()
    record = Record("cold-people")
    catalog, log = movielens_100k()
    users, histories = log.known(catalog).histories(catalog)
    test, validation, train = groups(len(users))
    known = log.keep(np.isin(users.rows(log.table[USER_ID]), train))
    retriever = Retriever(*_trained(catalog, known, options.epochs, options.out), catalog, known)
    people = [Newcomer(histories.take([one]), one) for one in (validation if options.validation else test)]
    people = [one for one in people if len(one.targets)]
    questionnaire = Questionnaire(retriever)
    values = measure(questionnaire, people, _liked(histories.take(train), len(catalog)))
    for method, recall in values.items():
        metrics = {f"recall@{K}/{n}": plain(bootstrap(recall[:, place])) for place, n in enumerate(COUNTS)}
        record.rows.append({"method": method, "split": "cold-people", "seed": 0, "metrics": metrics})
    record.notes = {
        "protocol": f"{len(train)} people to learn from, {len(people)} others to ask, whom nothing was trained on"
        f"{' (those to choose by)' if options.validation else ''}; a random half of each one's ratings answers (4 "
        "stars and more: likes it; never met: does not know it), the films liked in the other half are to be found "
        "among all but that first half, for every method alike; most popular: liked by most; random questions about "
        f"the same {len(questionnaire.askable)} films, mean of {DRAWS} draws; 95 % intervals by bootstrap over people; "
        "weights were chosen on other people",
        "differences": differences(values),
    }
    _show(record)
    record.finish(save=options.save)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8, help="of the model")
    parser.add_argument("--out", type=Path, default=Path("runs/cold-people"), help="where the model is kept")
    parser.add_argument("--validation", action="store_true", help="ask the validation people, to choose weights by")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    return parser.parse_args()


def groups(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A fifth of the people for the test, a tenth to choose by, and all others."""
    order = np.random.default_rng(0).permutation(count)
    return tuple(np.split(order, [count // 5, count // 5 + count // 10]))  # type: ignore[return-value]


def _trained(catalog: Catalog, log: Interactions, epochs: int, out: Path) -> tuple[TwoTower, object]:
    """A model of these people alone, and its index."""
    if not (out / "model" / "manifest.json").exists():
        train = {"epochs": epochs, "evaluate_every": min(4, epochs)}
        recipe = Recipe.read({"item": {"template": TEMPLATE}, "user": {"text": False}, "train": train})
        _, histories = log.histories(catalog)
        fit(catalog, *last_event(histories), recipe, out=out / "model")
    model = TwoTower.load(out / "model")
    return model, build_index(model, catalog, progress=False)


def _liked(histories: Histories, items: int) -> np.ndarray:
    """How many like each item, int64 ``(N,)``."""
    return np.bincount(histories.items[histories.ratings >= np.float32(LIKES_FROM)], minlength=items)


class Newcomer:
    """Somebody new.

    Args:
        history: of one person.
        seed: of the halves.

    Attributes:
        met: rows of the items that they can answer about.
        likes: whether they like each of them.
        targets: rows of the items that are to be found.
    """

    def __init__(self, history: Histories, seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(history.items))
        first, second = np.split(order, [len(order) // 2])
        likes = history.ratings >= np.float32(LIKES_FROM)
        self.met, self.likes, self.targets = history.items[first], likes[first], history.items[second][likes[second]]

    def answer(self, row: int) -> bool | None:
        """What they say about an item."""
        found = np.flatnonzero(self.met == row)
        return bool(self.likes[found[0]]) if len(found) else None


def measure(questionnaire: Questionnaire, people: list[Newcomer], liked: np.ndarray) -> dict[str, np.ndarray]:
    """Recall after each count of answers, float64 ``(P, counts)``, by method."""
    rng = np.random.default_rng(0)
    found: dict[str, list[np.ndarray]] = {ADAPTIVE: [], RANDOM: [], POPULAR: []}
    for person in people:
        found[ADAPTIVE].append(_asked(questionnaire, person, questionnaire.next))
        draws = [_asked(questionnaire, person, _at_random(questionnaire, rng)) for _ in range(DRAWS)]
        found[RANDOM].append(np.mean(draws, axis=0))
        scores = np.where(np.isin(np.arange(len(liked)), person.met), -1, liked)
        found[POPULAR].append(np.repeat(_recall(np.argsort(-scores, kind="stable"), person), len(COUNTS)))
    return {method: np.stack(values) for method, values in found.items()}


def _at_random(questionnaire: Questionnaire, rng: np.random.Generator) -> Ask:
    order = iter(rng.permutation(questionnaire.askable))
    return lambda answers: next(order)


def _asked(questionnaire: Questionnaire, person: Newcomer, ask: Ask) -> np.ndarray:
    """Recall after each count of answers."""
    catalog, answers, found = questionnaire.catalog, {}, []  # type: ignore[var-annotated]
    for count in range(max(COUNTS) + 1):
        if count in COUNTS:
            made = replace(questionnaire.person(answers), seen=person.met)
            items = [one.item for one in questionnaire.retriever.recommend(person=made, k=K)]
            found.append(_recall(catalog.rows(items), person))
        if count < max(COUNTS):
            item = ask(answers)
            answers[item] = person.answer(int(catalog.rows([item])[0]))
    return np.array(found)


def _recall(rows: np.ndarray, person: Newcomer) -> float:
    return float(np.isin(rows[:K], person.targets).sum() / len(person.targets))


def differences(values: dict[str, np.ndarray]) -> list[dict[str, object]]:
    """Adaptive less each other method at each count, on the same people."""
    return [
        {
            "metric": f"recall@{K}/{count}",
            "split": "cold-people",
            "seed": 0,
            "ours": ADAPTIVE,
            "theirs": other,
            "difference": plain(paired_difference(values[ADAPTIVE][:, place], values[other][:, place])),
        }
        for other in (RANDOM, POPULAR)
        for place, count in enumerate(COUNTS)
    ]


def _show(record: Record) -> None:
    screen = Console(stderr=True, width=120)
    table = Table("method", *(f"after {count}" for count in COUNTS))
    for row in record.rows:
        table.add_row(
            row["method"], *(f"{value[0]:.3f} ({value[1]:.3f}–{value[2]:.3f})" for value in row["metrics"].values())
        )
    screen.print(table)
    for entry in record.notes["differences"]:
        value, low, high = entry["difference"]
        screen.print(f"adaptive − {entry['theirs']:16} {entry['metric']:14} {value:+.4f}  [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__":
    main()
