"""What can be wrong with a trained run, one examination for each; where a threshold was measured, it says on what."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from indexing.exact import exact_search
from indexing.index import ItemIndex
from indexing.vectors import UNIT_TOLERANCE, unit
from towers.catalog import Catalog
from towers.errors import InputError
from towers.ids import IdList
from training.measuring.checkup import Case, Finding, at_least, at_most, sample, some
from training.measuring.exposure import coverage
from training.measuring.leaks import own_future, refuse_leaks
from training.measuring.protocols import given, leave_one_out, split_words

if TYPE_CHECKING:
    from towers.model import TwoTower

# Figures in brackets: MovieLens-100K after 54 epochs (recall@20 0.31), and after 10, when it ranked by popularity.
RANK_SHARE = 0.1  # of the dimension (items 0.84 and 0.69, queries 0.23 and 0.03)
COSINE = 0.9  # (items 0.24 and 0.80, queries 0.56 and 1.00); 0.7 was seen where a small model recommends well
SAME = 0.99  # one item embedded twice differs by rounding only, some 1e-6; another item is seldom so near
NEAR = 0.995  # films named twice in MovieLens reach it, neighbours of one series do not
NEAR_SHARE = 0.05  # (0.002 and 0.12): an item in twenty is more than some editions of one thing
TEXT_COSINE = 0.99  # what tells two texts apart is then a tenth of the vector; below, the item tower's centring copes
TEXT_SHARE = 0.5  # where most items say nothing of their own, text cannot carry new items
ID_SHARE = 0.5  # in a usual log nearly all events (1.00) are with items that are not rare
SILENT_SHARE = 0.05  # a few people whose items have all left the catalog are usual
SINGLE_SHARE = 0.5  # one event teaches no order: nobody to learn from in half of the people
RECALL = 0.95  # the search costs then at most a twentieth of what the model finds
OVERLAP_SHARE = 0.5  # of the overlap of popular lists (0.17 and 0.98)
OVERLAP = 0.1  # two items of twenty in common are no fault, whatever popular lists have

EMBEDDED = 200  # items embedded anew: a single swapped pair may escape, a shifted column cannot
COMPARED = 2000  # items whose nearest neighbour is looked for, and whose texts are looked at
NAMED = 5  # pairs of items
REBUILD = "build the index again with this model and this catalog: twotower index build"


def effective_rank(vectors: np.ndarray) -> float:
    """How many directions float ``(N, D)`` vectors really use, from 1 to min(N, D).

    ``exp(H)``, H the entropy of the singular values scaled to sum 1 (Roy and Vetterli, EUSIPCO 2007).
    """
    wide = vectors.astype(np.float64)
    small = wide.T @ wide if wide.shape[0] > wide.shape[1] else wide @ wide.T
    values = np.sqrt(np.clip(np.linalg.eigvalsh(small), 0, None))
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def mean_cosine(vectors: np.ndarray) -> float:
    """Mean over all pairs of different rows of float ``(N, D)`` unit vectors; 0 where there is no pair."""
    total, count = vectors.sum(axis=0, dtype=np.float64), len(vectors)
    return float((total @ total - count) / (count * (count - 1))) if count > 1 else 0.0


def overlap(lists: np.ndarray) -> float:
    """Share of one list that stands in another too, mean over all pairs of int64 ``(B, K)`` lists, -1 for nothing."""
    shown = np.bincount(lists[lists >= 0]).astype(np.float64)
    pairs = len(lists) * (len(lists) - 1)
    return float((shown * (shown - 1)).sum() / (pairs * lists.shape[1])) if pairs else 0.0


def faulty_vectors(name: str, vectors: np.ndarray, remedy: str) -> Finding:
    """Zero vectors, values that are not finite, other lengths than one; nothing else is worth looking at then."""
    finite = np.isfinite(vectors).all(axis=1)
    norms = np.linalg.norm(np.where(finite[:, None], vectors, 0), axis=1)
    faulty = ~finite | (np.abs(norms - 1) > UNIT_TOLERANCE)
    about = f"{(~finite).sum()} not finite, {(finite & (norms == 0)).sum()} all zeros, of {len(vectors):,}"
    if faulty.any():
        about += f"; the first is row {faulty.argmax()}"
    return at_most(f"faulty {name}", int(faulty.sum()), 0, about, remedy)


def spread(name: str, vectors: np.ndarray, remedy: str) -> list[Finding]:
    """Collapsed vectors: few directions, or one that all share."""
    least, most = RANK_SHARE * min(vectors.shape), f"of {vectors.shape[1]} dimensions, {len(vectors):,} vectors"
    return [
        at_least(f"effective rank of {name}", effective_rank(vectors), least, most, remedy),
        at_most(f"mean cosine of {name}", mean_cosine(vectors), COSINE, "over all pairs", remedy),
    ]


def items_apart(index: ItemIndex) -> list[Finding]:
    """Item vectors that fill too little of their space."""
    remedy = "train longer, or with a lower rate, and see that the texts tell items apart: the vectors have collapsed"
    return spread("items", index.vectors, remedy)


def near_duplicates(index: ItemIndex) -> list[Finding]:
    """Items that a query can hardly tell from another one."""
    rows = sample(np.arange(len(index)), COMPARED)
    hits = exact_search(index.vectors[rows], index.vectors, 1, exclude=rows[:, None])
    near = hits.scores[:, 0] >= NEAR
    pairs = sorted({(min(a, b), max(a, b)) for a, b in zip(rows[near], hits.rows[near, 0], strict=True)})
    about = f"of {len(rows):,}, another one is at a cosine of {NEAR} or more"
    if pairs:
        named = [" = ".join(map(str, index.ids.take(pair))) for pair in pairs[:NAMED]]
        about += f": {'; '.join(named)}" + ("; …" if len(pairs) > NAMED else "")
    remedy = (
        "merge items that are one thing, and give others texts that say how they differ; where queries are alike, too, "
        "train longer first"
    )
    return [at_most("near-duplicate items", float(near.mean()), NEAR_SHARE, about, remedy)]


def same_space(model: TwoTower, index: ItemIndex) -> Finding:
    """An index that is older than its model, or of another one."""
    same = index.space == model.space
    about = "" if same else f"the index is of the space {index.space[:12]!r}, the model of {model.space[:12]!r}"
    remedy = f"{REBUILD}; what needs both is not looked at until then"
    return Finding("index and model", "one space" if same else "two spaces", "one space", same, about, remedy)


def membership(index: ItemIndex, catalog: Catalog) -> list[Finding]:
    """Items that only one of the two has."""
    return [
        _only("items that the index lacks", catalog.ids, index.ids, f"they are never found: {REBUILD}"),
        _only("items that the catalog lacks", index.ids, catalog.ids, f"they take up room in each search: {REBUILD}"),
    ]


def aligned(model: TwoTower, index: ItemIndex, catalog: Catalog) -> list[Finding]:
    """Ids that stand at the vector of something else: items are embedded anew and compared."""
    rows = index.ids.rows(catalog.ids.array)
    chosen = sample(np.flatnonzero(rows >= 0), EMBEDDED)
    if not len(chosen):
        return []
    own = model.embed_items(catalog.select(chosen))
    off = ~((own * index.vectors[rows[chosen]]).sum(axis=1) >= SAME)
    elsewhere = int((exact_search(own[off], index.vectors, 1).scores[:, 0] >= SAME).sum())
    about, why = f"of {len(chosen):,} embedded anew", "the texts have changed since the index was built"
    if off.any():
        about += f", such as {some(catalog.ids, chosen[off])}; {elsewhere} of their vectors stand at other ids"
    if 2 * elsewhere > off.sum():
        why = "the ids are permuted against the vectors, and one must never be sorted without the other"
    return [at_most("items with a wrong vector", float(off.mean()), 0, about, f"{why}: {REBUILD}")]


def texts(model: TwoTower, catalog: Catalog) -> list[Finding]:
    """Text that cannot tell items apart; nothing where the model does not read items by their text."""
    from towers.embed import VectorCache

    if not model.config.item.text:
        return []
    counts = Counter(catalog.texts(model.template))
    empty = counts.pop("", 0)
    repeated = sum(count for count in counts.values() if count > 1)
    distinct = list(counts)
    chosen = [distinct[row] for row in sample(np.arange(len(distinct)), COMPARED)]
    vectors = unit(VectorCache().embed(model.encoder, chosen).vectors.numpy())
    about, remedy = f"of {len(catalog):,} items", f"give items texts of their own; the template is {model.template!r}"
    alike = "let the template begin with what differs, or choose another text encoder, and train again"
    return [
        at_most("items without text", empty / len(catalog), TEXT_SHARE, about, remedy),
        at_most("items with the text of another", repeated / len(catalog), TEXT_SHARE, about, remedy),
        at_most("mean cosine of texts", mean_cosine(vectors), TEXT_COSINE, f"over {len(chosen):,} texts", alike),
    ]


def own_vectors(case: Case) -> list[Finding]:
    """Events with items that have no vector of their own; nothing where the model gives none to any."""
    model, items = case.model, case.readable.items
    if not model.config.item.ids or not len(items):
        return []
    share = float((model.ids.rows(case.catalog.ids.array)[items] >= 0).mean())
    about = f"of {len(items):,} events; {len(model.ids):,} items have an id vector"
    remedy = "train again on this log: the model knows other ids, or too few items reach item.id_min_events"
    return [at_least("events with an id vector", share, ID_SHARE, about, remedy)]


def people(case: Case) -> list[Finding]:
    """People of whom little can be read."""
    lengths = case.readable.lengths
    silent, single = case.people - np.count_nonzero(lengths), np.count_nonzero(lengths == 1)
    about = f"of {case.people:,}"
    mend = "compare the item ids of log, catalog and index, and the recipe's data.min_rating and data.events"
    more = "take a longer log: nothing can be learned of what follows what from people with one event"
    return [
        at_most("people without a readable event", silent / case.people, SILENT_SHARE, about, mend),
        at_most("people with one event", single / case.people, SINGLE_SHARE, about, more),
    ]


def leaks(case: Case) -> list[Finding]:
    """Questions whose answer is given away, in the split that the log brings, else in leave-one-out."""
    if not len(case.positives.items):
        return []
    protocol = "given" if "split" in case.log.table.column_names else "leave-one-out"
    if protocol == "given":
        words = split_words(case.log.known(case.catalog), case.catalog, positive=case.model.config.data)
        split = given(case.positives, words)
    else:
        split = leave_one_out(case.positives)
    asked = sum(len(part) for part in (split.validation, split.test, split.newcomers) if part is not None)
    about = f"{protocol}, of {asked:,}; {split.repeats:,} more are not asked, as the person has met the item before"
    try:
        refuse_leaks(split, protocol=protocol)
        leaking = sum(own_future(split).values())
    except InputError as error:
        leaking, about = asked, str(error)
    remedy = "no event of a person after a question may train: split by time, as leave-one-out and temporal do"
    return [at_most("questions given away", leaking, 0, about, remedy)]


def answers(case: Case) -> list[Finding]:
    """Queries, the search for them, and the lists that come of it; nothing where nobody can be asked."""
    if not len(case.asked):
        return []
    queries = case.query_vectors
    sound = faulty_vectors("queries", queries, "train again with a lower rate: the user tower gives no usable vectors")
    if not sound.ok:
        return [sound]
    remedy = "train longer, as queries are alike while a model ranks by popularity alone; then try a lower rate"
    return [sound, *spread("queries", queries, remedy), *search(case), *alike(case)]


def search(case: Case) -> list[Finding]:
    """What approximate search misses, with the parameters that the index will be searched with."""
    index = case.index
    about = f"at {case.width}, of {len(case.queries):,} people; {index.kind}, {index.parameters or 'no parameters'}"
    remedy = "raise nprobe, efSearch or k_factor_rf (ItemIndex.set_parameters, then save), or build a Flat index"
    return [at_least("recall of the search", index.recall(case.query_vectors, case.width), RECALL, about, remedy)]


def alike(case: Case) -> list[Finding]:
    """Lists that are nearly the same for everybody, as those of the most popular items are."""
    ours, theirs = overlap(case.lists), overlap(case.popular_lists)
    shown, popular = (coverage(lists, len(case.catalog), case.width) for lists in (case.lists, case.popular_lists))
    about = (
        f"of {case.width} items, all pairs of {len(case.lists):,} people; {theirs:.3f} for the most popular items; "
        f"coverage {shown:.3f} against {popular:.3f}"
    )
    remedy = "train longer and look at the curve of ndcg@20: what the model recommends hardly depends on the person"
    return [at_most("overlap of lists", ours, max(OVERLAP, OVERLAP_SHARE * theirs), about, remedy)]


def _only(name: str, ours: IdList, theirs: IdList, remedy: str) -> Finding:
    """Ids that the others lack."""
    rows = np.flatnonzero(theirs.rows(ours.array) < 0)
    return at_most(name, len(rows), 0, f"of {len(ours):,}" + (f": {some(ours, rows)}" if len(rows) else ""), remedy)
