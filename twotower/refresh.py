"""`twotower refresh`: learn from what people did since, and change over only if that is not worse."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa

from indexing.approximate import automatic_kind
from indexing.build import build_index
from indexing.index import ItemIndex
from indexing.lock import Lock
from towers.artefact import read_manifest
from towers.catalog import ITEM_ID, Catalog
from towers.errors import ArtefactError, InputError
from towers.history import Histories
from towers.interactions import USER_ID, Interactions
from towers.model import KIND, TwoTower
from training.config import Recipe
from training.continuing import go_on
from training.measuring.evaluate import evaluate
from training.measuring.metrics import Interval, paired_difference
from training.measuring.splits import Questions, among, pairs
from training.ranker import IndexRanker
from twotower import releases

if TYPE_CHECKING:
    from serving.store.store import Store  # needs twotower[serve]

NEWEST = 0.3  # of the new events are not learned from but asked for
LEAST = 10  # people to compare by
METRICS = ("recall@20", "ndcg@20")
MOST_LOST = 0.1  # of what the current model reaches: more is refused even where it may be chance
LEARNED = ("click", "rating")  # kinds of the store's events that training reads


@dataclass(frozen=True)
class Plan:
    """What a refresh works with.

    Args:
        current: name of the release that is to be improved.
        until: seconds; events up to then were known to it.
        cut: seconds; events from then on are asked for.
        past: positive events before the cut.
        rated: all events before the cut.
        questions: about people whom the current release knew, what they did from the cut on.
        new: how many events came since.
    """

    current: str
    until: float
    cut: float
    past: Histories
    rated: Histories
    questions: Questions
    new: int

    def __str__(self) -> str:
        return (
            f"{self.new:,} events came since release {self.current}; the newest are asked of {len(self.questions):,} "
            f"people, all {len(self.past.items):,} before are learned from"
        )


@dataclass(frozen=True)
class Outcome:
    """What a refresh came to.

    Args:
        promoted: whether a new release is the current one.
        said: why, in words.
        release: name of the current release.
        differences: of the new model less the current one, by metric, where they were compared.
    """

    promoted: bool
    said: str
    release: str
    differences: dict[str, Interval]

    @property
    def refused(self) -> bool:
        """Whether there was a new model, and it was worse."""
        return bool(self.differences) and not self.promoted

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        differences = {name: [round(value, 6) for value in one] for name, one in self.differences.items()}
        return {"promoted": self.promoted, "said": self.said, "release": self.release, "differences": differences}


def begin(folder: Path, model: Path, catalog: Catalog, log: Interactions) -> str:
    """Make a trained model the first release of a folder; its name.

    Args:
        folder: of releases, made where there is none.
        model: folder of a model that knows all events of `log`.
        catalog: items for its index.
        log: what it was trained on.

    Raises:
        InputError: the folder has releases already, or the log has no times.
    """
    if releases.current(folder) is not None:
        raise InputError(f"{folder} has a current release: refresh it without --model")
    until = min(float(_times(log).max()), time.time())  # a wrong time to come would leave nothing new for years
    towers, facts = TwoTower.load(model), {"until": until, "model": _facts(model)}
    with Lock(folder):
        return releases.release(folder, towers, build_index(towers, catalog, progress=False), facts)


def refresh(
    folder: Path,
    catalog: Catalog,
    log: Interactions,
    *,
    store: Store | None = None,
    epochs: int = 2,
    keep: int = 3,
    dry_run: bool = False,
) -> Outcome:
    """Continue training on what came since, compare on the newest slice of it, and promote what is not worse.

    The current model goes on learning from all events before the slice. Both models are then asked what people whom
    the current one knew did in the slice, which neither has seen. The new one is refused if a metric is lower by more
    than chance, that is if the 95 % interval of the paired difference lies below 0; or, as few people make wide
    intervals, if it is lower by more than a tenth of what the current model reaches.

    Args:
        folder: of releases.
        catalog: the items on offer.
        log: events, old and new, with times.
        store: further events, of which clicks and ratings are learned from.
        epochs: passes over all people.
        keep: how many of the newest releases stay.
        dry_run: say what would be done, and do nothing.

    Raises:
        InputError: no release yet, no times, or nobody to learn from.
        ArtefactError: another refresh is at work, or something cannot be written.
    """
    if releases.current(folder) is None:  # before the lock, which makes a folder
        raise InputError(f"{folder} has no release to refresh: give a trained --model once, to begin with")
    with Lock(folder):
        plan = _plan(folder, catalog, log if store is None else joined(log, store))
        if isinstance(plan, Outcome):
            return plan
        if dry_run:
            said = f"{plan}; {epochs} epochs would be trained, and a model that is not worse would be promoted"
            return Outcome(False, said, plan.current, {})
        here = folder / releases.RELEASES / plan.current / "model"
        old, trained = TwoTower.load(here), _facts(here)
        new = go_on(old, catalog, plan.past, Recipe.read(trained["recipe"]), epochs=epochs, rated=plan.rated)
        differences, reached = _compare(old, new, catalog, plan)
        worse = {n: d for n, d in differences.items() if d.high < 0 or d.value < -MOST_LOST * reached[n]}
        if worse:
            said = "; ".join(f"{name} {_signed(found)}" for name, found in worse.items())
            return Outcome(False, f"refused, as the new model is worse: {said}", plan.current, differences)
        index = _index_like(folder / releases.RELEASES / plan.current / "index", new, catalog)
        facts = {"until": plan.cut, "model": trained, "differences": {n: list(d) for n, d in differences.items()}}
        name = releases.release(folder, new, index, facts)
        releases.prune(folder, keep)
        said = f"release {name} is current: " + "; ".join(f"{n} {_signed(found)}" for n, found in differences.items())
        return Outcome(True, said, name, differences)


def joined(log: Interactions, store: Store) -> Interactions:
    """A log with the clicks and ratings of a store behind it; what is in both is there once. Ids become text."""
    low, high = log.rating_range or (0.0, 1.0)
    rows, cursor = [], 0
    while True:
        events, cursor = store.since(cursor)
        if not events:
            break
        rows += [(one.person, one.item, one.time, one.value, one.kind) for one in events if one.kind in LEARNED]
    names = {USER_ID: pl.String, ITEM_ID: pl.String, "timestamp": pl.Float64, "rating": pl.Float64, "event": pl.String}
    new = pl.DataFrame(rows, schema=names, orient="row")
    unit = ((pl.col("rating").clip(low, high) - low) / (high - low)).cast(pl.Float32)
    rated = pl.when(pl.col("event") == "rating").then(unit).alias("rating")
    new = new.with_columns(rated, pl.lit(1.0, pl.Float32).alias("weight"))
    old = pl.DataFrame(pl.from_arrow(log.table)).with_columns(pl.col(USER_ID, ITEM_ID).cast(pl.String))
    new = new.select([name for name in new.columns if name in old.columns])
    if "timestamp" in old.columns:
        new = new.join(old.select(USER_ID, ITEM_ID, "timestamp"), on=[USER_ID, ITEM_ID, "timestamp"], how="anti")
    table = pl.concat([old, new], how="diagonal_relaxed").to_arrow()
    return replace(log, loaded=replace(log.loaded, table=_as(table, log.table.schema)))


def _as(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table in the types of a log, ids as text."""
    text = {USER_ID: pa.large_string(), ITEM_ID: pa.large_string()}
    return table.cast(pa.schema([(field.name, text.get(field.name, field.type)) for field in schema]))


def _plan(folder: Path, catalog: Catalog, log: Interactions) -> Plan | Outcome:
    """What there is to do; an outcome where there is nothing."""
    name = releases.current(folder)
    assert name is not None
    until = float(releases.about(folder, name)["until"])
    recipe = Recipe.read(_facts(folder / releases.RELEASES / name / "model")["recipe"])
    known = log.known(catalog)
    times = _times(known)
    new = np.sort(times[times > until])
    if not len(new):
        return Outcome(False, f"nothing new since release {name}", name, {})
    cut = float(new[int((1 - NEWEST) * len(new))])
    _, positives = known.histories(catalog, positive=recipe.data)
    _, everything = known.histories(catalog)
    questions = newest(positives, until, cut)
    if len(questions) < LEAST:
        people = f"{len(questions)} people whom release {name} knows did something new"
        return Outcome(False, f"of {len(new):,} new events, only {people}; {LEAST} are needed to compare", name, {})
    past, rated = (one.keep(one.times < cut) for one in (positives, everything))  # type: ignore[arg-type, operator]
    return Plan(name, until, cut, past, rated, questions, len(new))


def newest(histories: Histories, until: float, cut: float) -> Questions:
    """What people who did something up to `until` did from `cut` on that is new to them."""
    assert histories.times is not None
    later, keys = histories.times >= cut, pairs(histories)
    known = np.bincount(histories.people[histories.times <= until], minlength=len(histories)) > 0
    asked = np.flatnonzero(later & known[histories.people] & ~among(keys, keys[~later]))
    first = asked[np.unique(keys[asked], return_index=True)[1]]
    chosen = np.zeros(len(keys), bool)
    chosen[first] = True
    targets = histories.keep(chosen)
    people = np.flatnonzero(targets.lengths)
    return Questions(people, histories.keep(~later).take(people), targets.take(people))


def _compare(
    old: TwoTower, new: TwoTower, catalog: Catalog, plan: Plan
) -> tuple[dict[str, Interval], dict[str, float]]:
    """The new model's metrics less the old one's, by their vectors alone, on the same people; and the old one's.

    Popularity of late is not the model's, and where a flood of events has made something popular it would hide what
    they taught.
    """
    counts = np.bincount(plan.past.items, minlength=len(catalog))
    found = []
    for model in (new, old):
        index = build_index(model, catalog, progress=False)
        ranker = IndexRanker(model, index, catalog, together=True)
        found.append(evaluate(ranker, plan.questions, counts=counts, ks=(20,), depth=20).per_person)
    differences = {name: paired_difference(found[0][name], found[1][name]) for name in METRICS}
    return differences, {name: float(found[1][name].mean()) for name in METRICS}


def _index_like(current: Path, model: TwoTower, catalog: Catalog) -> ItemIndex:
    """An index of the kind, and with the search parameters, that somebody chose for the current one, as by tuning."""
    before = ItemIndex.load(current, mmap=True)
    chosen = before.kind != automatic_kind(*before.vectors.shape)
    index = build_index(model, catalog, kind=before.kind if chosen else "auto", progress=False)
    if index.kind == before.kind:
        index.set_parameters(before.parameters)
    return index


def _facts(model: Path) -> dict[str, Any]:
    """What a model's manifest says of its training.

    Raises:
        ArtefactError: no model, or one that does not say by which recipe it was trained.
    """
    manifest = read_manifest(model, KIND)
    if "recipe" not in manifest:
        raise ArtefactError(f"{model} does not say by which recipe it was trained: train it with `out`")
    return {name: manifest[name] for name in ("recipe", "training", "events") if name in manifest}


def _times(log: Interactions) -> np.ndarray:
    if "timestamp" not in log.table.column_names:
        raise InputError(f"a refresh needs to know what is new, and {log.lacks('timestamp')}")
    return log.table["timestamp"].to_numpy()


def _signed(found: Interval) -> str:
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
