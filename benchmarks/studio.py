"""python -m benchmarks.studio [--seeds 0 1 2] [--save]

Does each kind of content help? The generated music shop, where text, cover and sound tell a part of every taste each:
models that read one, two and three of them, plain probes below, the true tastes above. Everything in it is generated.
Jobs run side by side, one core each.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.pool import side_by_side
from benchmarks.record import Record, plain
from benchmarks.studio_jobs import (
    BASELINES,
    COLLABORATIVE,
    FLOOR,
    FROZEN,
    FUSIONS,
    ORACLE,
    SHIPPED,
    SUBSETS,
    TUNED,
    WHOLE,
    WITH_IDS,
    Job,
    Opening,
    Outcome,
    open_shop,
    run_job,
)
from benchmarks.studio_lists import KNOWN, NEW_TRACKS, PerPerson, quotient
from training.measuring.metrics import bootstrap, paired_difference
from twotower.studio.exam import METRIC
from twotower.studio.settings import GENERATED, StudioSettings

OF_CEILING, OF_KNOWN = 0.6, 0.8
"""Asked of all three parts: their share of what the true tastes find, and what they find of new tracks for each known
one."""
PROTOCOL = (
    f"{GENERATED} Per seed a shop of its own (twotower.studio, settings fixed before any model was trained), protocol "
    "given: a listener's last choice is the test, the one before the validation, by which settings are chosen; nothing "
    "is refitted, every method learns from the choices before. Rows named by parts have no id vectors and no reader of "
    "history text, so that nothing but these parts of a track tells them apart; text is the default template (title, "
    "artist, text and year, of which only the text tells of a taste). +ids has vectors of tracks beside; `twotower` "
    "is the recipe that ships, with ids and both readers, first seed only. New tracks have no event to train on, but "
    "their content is known when the model is trained. Whole catalog ranked but for known-among-n and "
    "new-tracks-among-n: the same listeners and pasts, n candidates each (all new tracks; or the last choice and n - 1 "
    "known tracks that the listener has not met, mean over all draws). 95 % intervals by bootstrap over listeners."
)

Found = dict[tuple[str, int], PerPerson]


def main() -> None:
    """Run the benchmark."""
    options = _options()
    record = Record("studio")
    with TemporaryDirectory() as folder:
        run(record, options.seeds, Path(folder))
    _show(record)
    record.finish(save=options.save)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the shops and the trainings")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    return parser.parse_args()


def run(record: Record, seeds: Sequence[int], folder: Path, settings: StudioSettings | None = None) -> None:
    """Make the shops, do the jobs, fill the record.

    Args:
        record: gets rows and notes.
        seeds: of shops and trainings.
        folder: for the shops.
        settings: of the shops, `StudioSettings()` if None.
    """
    shops = {seed: folder / f"seed-{seed}" for seed in seeds}
    openings = {f"shop {seed}": Opening(shop, seed, settings or StudioSettings()) for seed, shop in shops.items()}
    side_by_side(open_shop, openings)
    jobs = list(_jobs(shops))
    fill(record, side_by_side(run_job, {job.name: job for job in jobs}), seeds)


def fill(record: Record, outcomes: Sequence[Outcome], seeds: Sequence[int]) -> None:
    """Rows and notes of what the jobs found."""
    found = {(method, one.job.seed): lists for one in outcomes for method, lists in one.found.items()}
    record.rows = list(_rows(found))
    record.notes = {
        "protocol": PROTOCOL,
        "generated": GENERATED,
        "tuned": TUNED,
        "targets": _targets(found, seeds),
        "fusion": _fusion(outcomes, seeds[0]),
        "differences": _differences(found, seeds),
        "jobs": {one.job.name: one.notes for one in outcomes},
    }


def _jobs(shops: Mapping[int, Path]) -> Iterator[Job]:
    """The longest first."""
    first = next(iter(shops))
    methods = [(SHIPPED, first)] + [(method, seed) for method in (WITH_IDS, WHOLE, *SUBSETS) for seed in shops]
    methods += [(method, first) for method in FUSIONS] + [(BASELINES, seed) for seed in shops]
    for method, seed in dict.fromkeys(methods):
        yield Job(method, seed, shops[seed])


def _rows(found: Found) -> Iterator[dict[str, Any]]:
    """One for each set of questions, method and seed."""
    for split in next(iter(found.values())):
        for (method, seed), lists in found.items():
            metrics = {METRIC: plain(bootstrap(lists[split]))}
            yield {"method": method, "split": split, "seed": seed, "metrics": metrics}


def _targets(found: Found, seeds: Sequence[int]) -> dict[str, Any]:
    """What was asked for, each seed with its interval.

    New tracks are the easier questions, as a listener's first choices of them are asked for and not the thirtieth; so
    the same quotient is also given of the shares of what the true tastes find.
    """
    of_ceiling, of_known, of_shares = [], [], []
    for seed in seeds:
        ours, best = found[WHOLE, seed], found[ORACLE, seed]
        known, new = (next(name for name in ours if name.startswith(f"{one}-among")) for one in (KNOWN, NEW_TRACKS))
        of_ceiling.append(plain(quotient(ours[KNOWN], best[KNOWN])))
        of_known.append(plain(quotient(ours[new], ours[known])))
        shares = [ours[one].mean() / best[one].mean() for one in (new, known)]
        of_shares.append(round(float(shares[0] / shares[1]), 6))
    steps = [entry["difference"] for entry in _steps(found, seeds)]
    return {
        "each part raises recall": f"{sum(low > 0 for _, low, _ in steps)} of {len(steps)} steps, interval above 0",
        "share of the ceiling": {"wanted": OF_CEILING, "seeds": of_ceiling},
        "new tracks to known ones": {"wanted": OF_KNOWN, "seeds": of_known},
        "new tracks to known ones, as shares of the ceiling": {"seeds": of_shares},
    }


def _fusion(outcomes: Sequence[Outcome], seed: int) -> dict[str, Any]:
    """The best validation of each fusion of all three parts, and the one to take."""
    names = {WHOLE: "gated", **{name: name for name in FUSIONS}}
    tried = {}
    for one in outcomes:
        if one.job.method in names and one.job.seed == seed:
            best = max(one.notes["epochs"], key=lambda entry: entry["ndcg@20"])
            tried[names[one.job.method]] = {name: best[name] for name in ("epoch", "ndcg@20", METRIC)}
    chosen = max(tried, key=lambda name: tried[name]["ndcg@20"])
    return {"chosen": chosen, "by": f"validation ndcg@20, seed {seed}", "tried": tried}


def _differences(found: Found, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """What each part adds, and all three beside what needs no training and beside who met what alone."""
    others = [(WHOLE, FLOOR), (WHOLE, FROZEN), (WITH_IDS, WHOLE), (SHIPPED, WITH_IDS)]
    others += [(WITH_IDS, name) for name in COLLABORATIVE]
    asked = [(pair, seed) for pair, seed in product(others, seeds) if (pair[0], seed) in found]
    return [*_steps(found, seeds), *(_difference(found, seed, *pair) for pair, seed in asked)]


def _steps(found: Found, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Each subset of the parts with one more, less itself."""
    pairs = [(more, less) for more, less in product(SUBSETS, SUBSETS) if _is_step(SUBSETS[less], SUBSETS[more])]
    return [_difference(found, seed, *pair) for pair, seed in product(pairs, seeds)]


def _is_step(less: Sequence[str], more: Sequence[str]) -> bool:
    return set(less) < set(more) and len(more) == len(less) + 1


def _difference(found: Found, seed: int, ours: str, theirs: str) -> dict[str, Any]:
    difference = paired_difference(found[ours, seed][KNOWN], found[theirs, seed][KNOWN])
    names = {"metric": METRIC, "split": KNOWN, "seed": seed, "ours": ours, "theirs": theirs}
    return {**names, "difference": plain(difference)}


def _show(record: Record) -> None:
    """Recall in percent, the mean over seeds; then the targets."""
    screen = Console(stderr=True, width=160)
    splits, methods = (list(dict.fromkeys(row[key] for row in record.rows)) for key in ("split", "method"))
    table = Table(title=f"{METRIC} in percent, mean over seeds (generated)")
    table.add_column("method", no_wrap=True)
    for split in splits:
        table.add_column(split, justify="right")
    for method in methods:
        rows = [row for row in record.rows if row["method"] == method]
        means = [np.mean([row["metrics"][METRIC][0] for row in rows if row["split"] == split]) for split in splits]
        table.add_row(method, *(f"{100 * mean:.1f}" for mean in means))
    screen.print(table)
    for name in ("targets", "fusion"):
        for key, value in record.notes[name].items():
            screen.print(f"{name}: {key}: {value}", markup=False)


if __name__ == "__main__":
    main()
