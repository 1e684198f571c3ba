"""python -m benchmarks.missing [--shop DIR | --films DIR] [--save]

What a missing text, picture or sound costs: the generated music shop, seed 0, or MovieLens-100K with descriptions,
posters and trailers. A model that masks what is missing and was trained to do without, beside the same model fed zeros.
Jobs run side by side, one core each. The record of films is missing-films.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import missing_data
from benchmarks.contents import contents_of
from benchmarks.missing_data import EPOCHS, Data
from benchmarks.pool import side_by_side
from benchmarks.record import Record, plain
from benchmarks.settings import merged
from benchmarks.studio_jobs import TUNED, Opening, open_shop
from benchmarks.studio_lists import quotient
from indexing.build import readable
from indexing.index import ItemIndex
from towers.catalog import Catalog
from towers.contents import Contents
from towers.embed import VectorCache
from towers.model import TwoTower
from towers.rejected import Rejected
from training.config import Recipe
from training.measuring.evaluate import ranked_rows
from training.measuring.metrics import bootstrap, matches, recall
from training.measuring.splits import Questions
from training.ranker import IndexRanker
from training.trainer import fit
from twotower.studio.exam import METRIC, K
from twotower.studio.settings import GENERATED, PARTS, StudioSettings

SEED = 0
SHARES = (0, 25, 50, 75, 100)  # percent of the items
ALL = "all"
HALF, GOAL = 50, 0.5
UNMASKED: dict[str, Any] = {"item": {"content_dropout": 0.0}, "train": {"alone_weight": 0.0}}
METHODS: dict[str, dict[str, Any]] = {
    "twotower": {},
    "zeros": UNMASKED,
    "twotower with ids": {"item": {"ids": True}},
    "zeros with ids": merged(UNMASKED, {"item": {"ids": True}}),
}
SHOP = f"{GENERATED} Shop of seed {SEED}, protocol given, whole catalog ranked."
FILMS = (
    f"MovieLens-100K, leave-one-out, not refitted, whole catalog ranked, {EPOCHS} epochs; text is title, year, genres "
    "and description. 16 % of the films have no poster and 65 % no trailer to begin with, which `zeros` learns from as "
    "zeros, too. A film with nothing left is set aside by `twotower` without ids, and ranked by `zeros`."
)
PROTOCOL = (
    "After training, random items (seeded, the same for every method) lose their text, their picture or their sound, "
    "in histories as in the index; in missing-all each of the three is lost independently with this probability, but "
    "an item that would lose all keeps one at random. `twotower` leaves missing content out and was trained to do "
    "without; `zeros` was trained by the same recipe without content dropout and without the loss that looks for an "
    "item by one kind alone, and what it misses is a zero vector that counts as content. The reader of history text is "
    "off; `with ids` has vectors of the items' own, which are never missing. 95 % intervals by bootstrap over people."
)

Missing = dict[str, np.ndarray]  # bool (N,) of each kind
Found = dict[str, np.ndarray]  # recall of each person by name of the case


@dataclass(frozen=True)
class Job:
    """A method on a shop, or on the films of the data folder."""

    method: str
    data: Path
    films: bool

    def read(self) -> Data:
        """Items and questions."""
        return (missing_data.films if self.films else missing_data.shop)(self.data)


def main() -> None:
    """Run the benchmark."""
    options = _options()
    record = Record("missing" if options.films is None else "missing-films")
    if options.films is not None and not (options.films / "movies").is_dir():
        Console(stderr=True).print(f"{options.films} has no folder movies/: films are skipped")
        return record.finish(save=False)
    if options.films is not None:
        run(record, options.films, films=True)
        record.notes["protocol"] = f"{FILMS} {PROTOCOL}"
    else:
        with TemporaryDirectory() as folder:
            _shop(record, options.shop or Path(folder) / "shop")
    _show(record)
    return record.finish(save=options.save)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--shop", type=Path, help="folder of a shop; default: one is made")
    source.add_argument("--films", type=Path, help="data folder with movies/: films instead of the shop")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    return parser.parse_args()


def _shop(record: Record, folder: Path) -> None:
    if not folder.exists():
        open_shop(Opening(folder, SEED, StudioSettings()))
    run(record, folder, films=False)
    record.notes |= {"protocol": f"{SHOP} {PROTOCOL}", "generated": GENERATED, "tuned": TUNED}


def run(record: Record, data: Path, *, films: bool) -> None:
    """Train, take away, ask, and fill the record.

    Args:
        record: gets rows and notes.
        data: folder of a shop, or the data folder.
        films: whether it is the latter.
    """
    jobs = {name: Job(name, data, films) for name in METHODS}
    read = jobs["twotower"].read()
    contents_of(read.catalog, Recipe.read(read.settings), progress=True)  # once, before jobs that need them
    fill(record, dict(zip(jobs, side_by_side(run_method, jobs), strict=True)))


def fill(record: Record, outcomes: Mapping[str, tuple[Found, dict[str, Any]]]) -> None:
    """Rows and notes of what each method found."""
    found = {name: one for name, (one, _) in outcomes.items()}
    record.rows = [
        {"method": name, "split": case, "seed": SEED, "metrics": {METRIC: plain(bootstrap(found[name][case]))}}
        for case in found["twotower"]
        for name in METHODS
    ]
    pairs = {"twotower": "zeros", "twotower with ids": "zeros with ids"}
    record.notes = {
        "lost": {ours: _lost(found[ours], found[theirs]) for ours, theirs in pairs.items()},
        "jobs": {name: notes for name, (_, notes) in outcomes.items()},
    }


def run_method(job: Job) -> tuple[Found, dict[str, Any]]:
    """Train, and ask with more and more missing."""
    torch.set_num_threads(1)
    catalog, split, settings = job.read()
    recipe, zeros = Recipe.read(merged(settings, METHODS[job.method])), job.method.startswith("zeros")
    with patch.object(TwoTower, "contents", _filled(TwoTower.contents)) if zeros else nullcontext():
        model, report = fit(catalog, split.train, split.validation, recipe, progress=False)
    contents, _ = model.contents(catalog, VectorCache())
    found = {}
    for case, missing in cases(contents.present).items():
        left = zeroed(contents, missing) if zeros else masked(contents, missing)
        index = _index(model, catalog, left)
        found[case] = _recall(IndexRanker(model, index, catalog, log=split.train), split.test)
    notes = {"best_epochs": report.best_epochs, "seconds": round(report.seconds, 1), "trend": report.trend}
    return found, {**notes, "recipe": recipe.model_dump(mode="json")}


def _filled(read: Any) -> Any:
    """`TwoTower.contents` of a library that fills in zeros: nothing is missing."""

    def contents(*args: Any, **options: Any) -> tuple[Contents, Rejected]:
        found, unread = read(*args, **options)
        return zeroed(found, {}), unread

    return contents


def cases(present: Mapping[str, torch.Tensor]) -> dict[str, Missing]:
    """Who misses what, by a name such as ``missing-text-50``; what is missing stays so at every higher share.

    Args:
        present: bool ``(N,)`` which of N items have each kind; all have one of them.
    """
    there = np.stack([present[part].numpy() for part in PARTS])
    items, rng = there.shape[1], np.random.default_rng(SEED)
    order = {part: rng.permutation(items) for part in PARTS}
    chance = rng.random((len(PARTS), items))
    kept = np.where(there, chance, -1).argmax(axis=0)  # of what an item has, what would go last
    found: dict[str, Missing] = {}
    for part in PARTS:
        for share in SHARES:
            found[f"missing-{part}-{share}"] = {part: order[part] < round(share / 100 * items)}
    for share in SHARES:
        gone = chance < share / 100
        gone[kept, np.arange(items)] = False
        found[f"missing-{ALL}-{share}"] = dict(zip(PARTS, gone, strict=True))
    return found


def masked(contents: Contents, missing: Missing) -> Contents:
    """What is missing is not there."""
    present = {name: there & ~_mask(missing, name, there) for name, there in contents.present.items()}
    return Contents(contents.vectors, present)


def zeroed(contents: Contents, missing: Missing) -> Contents:
    """What is missing is a zero vector that looks like content, as where a library fills in zeros."""
    left = masked(contents, missing).present
    vectors = {name: one * left[name][:, None] for name, one in contents.vectors.items()}
    return Contents(vectors, {name: torch.ones_like(there) for name, there in left.items()})


def _mask(missing: Missing, name: str, there: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(missing[name]) if name in missing else torch.zeros_like(there)


def _index(model: TwoTower, catalog: Catalog, contents: Contents) -> ItemIndex:
    vectors = model.item_vectors(contents, model.id_rows(catalog))
    ids, vectors = readable(catalog, vectors)
    return ItemIndex.from_arrays(ids, vectors, kind="auto", space=model.space)


def _recall(ranker: IndexRanker, questions: Questions) -> np.ndarray:
    return recall(matches(ranked_rows(ranker, questions, K), questions.targets), questions.targets.lengths, K)


def _lost(ours: Found, theirs: Found) -> dict[str, Any]:
    """At half missing: what each loses of its own recall, their quotient, and ours less the part of theirs allowed.

    Where theirs loses nothing for certain there is no quotient.
    """
    found: dict[str, Any] = {}
    for kind in (*PARTS, ALL):
        less, more = (one[f"missing-{kind}-0"] - one[f"missing-{kind}-{HALF}"] for one in (ours, theirs))
        lost = bootstrap(more)
        found[kind] = {
            "ours": plain(bootstrap(less)),
            "theirs": plain(lost),
            "quotient": plain(quotient(less, more)) if lost.low > 0 else None,
            f"ours - {GOAL} theirs": plain(bootstrap(less - GOAL * more)),
        }
    return {f"at {HALF} %": found, "wanted": f"quotient at most {GOAL}"}


def _show(record: Record) -> None:
    """Recall in percent over the share that is missing; then what is lost at half."""
    screen = Console(stderr=True, width=160)
    source = "generated" if "generated" in record.notes else "films"
    table = Table(title=f"{METRIC} in percent by percent of items from which it is taken ({source})")
    for name in ("missing", "method", *map(str, SHARES)):
        table.add_column(name, justify="left" if name in ("missing", "method") else "right")
    for kind in (*PARTS, ALL):
        for method in METHODS:
            found = dict(_curve(record, kind, method))
            table.add_row(kind, method, *(f"{100 * found[share]:.1f}" for share in SHARES))
    screen.print(table)
    for ours, lost in record.notes["lost"].items():
        for kind, entry in lost[f"at {HALF} %"].items():
            screen.print(f"{ours}, half of {kind} missing: lost {entry}", markup=False)


def _curve(record: Record, kind: str, method: str) -> Iterator[tuple[int, float]]:
    for row in record.rows:
        stem, share = row["split"].rsplit("-", 1)
        if row["method"] == method and stem == f"missing-{kind}":
            yield int(share), row["metrics"][METRIC][0]


if __name__ == "__main__":
    main()
