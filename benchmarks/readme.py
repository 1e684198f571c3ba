"""python -m benchmarks.readme

Writes the short tables of the README and all tables of ``docs/measured.md`` from the records in
``benchmarks/results``, so that no figure in them can drift.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from benchmarks.measured import cell, line, page
from benchmarks.record import RESULTS, ROOT, read_record

README, MEASURED = ROOT / "README.md", ROOT / "docs" / "measured.md"


@dataclass(frozen=True)
class Headline:
    """One line of the README.

    Args:
        asked: what, in words.
        record: file in ``benchmarks/results``.
        split: of its rows; ours and theirs may have one of their own.
        metric: which.
        ours: method.
        theirs: method, or the name of something published.
    """

    asked: str
    record: str
    split: str
    metric: str
    ours: str
    theirs: str


FILMS, FURTHER = "movielens-100k", "movielens-100k-full"
HEADLINES = (
    Headline("What each person rated next", FILMS, "leave-one-out", "recall@20", "twotower", "ease"),
    Headline("The same, order counted", FILMS, "leave-one-out", "ndcg@20", "twotower", "als"),
    Headline("The last tenth of all events", FURTHER, "temporal", "ndcg@20", "twotower", "most-popular-of-late"),
    Headline("Films without any event, among all", FURTHER, "cold-items", "recall@20/cold", "twotower", "content-knn"),
    Headline("All films, a tenth of them new", FURTHER, "cold-items", "recall@20", "twotower", "als"),
    Headline("Stars, lower is better", FILMS, "ratings", "rmse", "twotower", "bias-model"),
    Headline("A genre and a decade in words", FILMS, "text-query", "ndcg@20", "twotower", "frozen-text"),
    Headline("A sentence about a film", FILMS, "description-query", "recall@20", "twotower", "bm25"),
    Headline("Events of the day are heeded", "moment", "temporal", "recall@20", "following", "frozen"),
    Headline(
        "Somebody new, one answer", "cold-people", "cold-people", "recall@20/1", "adaptive", "random-questions"
    ),
    Headline(
        "Somebody new, ten answers", "cold-people", "cold-people", "recall@20/10", "adaptive", "random-questions"
    ),
    Headline(
        "Amazon Beauty, next purchase", "amazon-beauty", "given", "recall@10", "twotower",
        "BSARec (AAAI 2024, its authors' log)",
    ),
    Headline(
        "Amazon Beauty, order counted", "amazon-beauty", "given", "ndcg@10", "twotower",
        "BSARec (AAAI 2024, its authors' log)",
    ),
    Headline("Amazon Beauty, in the same run", "amazon-beauty", "given", "recall@10", "twotower", "sasrec"),
    Headline(
        "MovieLens-1M, next film, of ids", "ml-1m-ids", "given", "recall@10", "twotower-id",
        "SASRec, best of 108 settings on validation data (time-to-split)",
    ),
    Headline(
        "MovieLens-1M, order counted", "ml-1m-ids", "given", "ndcg@10", "twotower-id",
        "SASRec, best of 108 settings on validation data (time-to-split)",
    ),
    Headline("MovieLens-1M, of ids, in the same run", "ml-1m-ids", "given", "recall@10", "twotower-id", "esasrec"),
    Headline("MovieLens-1M without times, as sets", "ml-1m-sets", "given", "recall@20", "twotower", "ease"),
    Headline("As sets, order counted", "ml-1m-sets", "given", "ndcg@20", "twotower", "ease"),
    Headline(
        "A caption's picture (stamps, names read)", "stamps", "caption → picture", "recall@10", "twotower",
        "class names, no training",
    ),
    Headline(
        "A caption's sound (stamps, names read)", "stamps", "caption → sound", "recall@10", "twotower",
        "class names, no training",
    ),
    Headline(
        "Tracks of a generated shop, all kinds of content", "studio", "known", "recall@20",
        "twotower text+image+audio", "twotower text+image",
    ),
    Headline("The same with ids, as shipped", "studio", "known", "recall@20", "twotower", "ease"),
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """What was done to the system on purpose.

    Args:
        done: what, in words.
        record: file in ``benchmarks/results``.
        metrics: counts, summed over its rows.
        splits: of the rows that count; all where empty.
    """

    done: str
    record: str
    metrics: tuple[str, ...]
    splits: tuple[str, ...] = ()


TRIALS = (
    Trial(
        "random changes, searches, roll backs and reopenings of an index, in files and a Milvus, beside plain Python",
        "lifecycle",
        ("operations", "differences"), ("generated",),
    ),
    Trial(
        "SIGKILLs while items are added, removed, compacted, published, and indexes built, over Ray too", "kill",
        ("kills", "lost", "duplicated", "wrong"), ("generated",),
    ),
    Trial(
        "eight readers search an index, five minutes alone, five while it is replaced and published again and again",
        "readers", ("searches", "errors", "mixed"),
    ),
    Trial("damaged indexes and full disks", "corrupt", ("files", "crashes", "wrong_answers"), ("all",)),
    Trial(
        "model and index of a service exchanged under load", "serve-faults", ("swaps", "failed", "mixed"),
        ("under-load",),
    ),
    Trial(
        "SIGKILLs of a service while feedback comes in", "serve-faults", ("kills", "lost", "duplicated"),
        ("during-feedback",),
    ),
    Trial("requests that no client should send", "fuzz", ("requests", "errors_5xx", "leaks")),
)  # fmt: skip


SEARCHED = {
    "mixture-1000000": "a million generated vectors",
    "debian-200000": "200,000 sentences",
}
"""Splits of the record of approximate search, in words."""
RECALLS = (".90", ".95", ".99")
GRID = "the best FAISS index of a grid, called bare"
SEARCHES_TITLE = """Approximate search: queries a second of one thread, a thousand in a batch, at a recall@10 of .90,
.95 and .99, each with the least work that reaches it; two threads, one query alone, memory and build times are in
docs/measured.md:"""


def main() -> None:
    """Replace what stands between the README's markers, and the document."""
    README.write_text(with_table(README.read_text("utf-8")), "utf-8")
    MEASURED.write_text(page(), "utf-8")


def with_table(text: str) -> str:
    """The README with its tables made anew."""
    parts = [headlines(), "Done to it on purpose:", trials(), SEARCHES_TITLE, searches()]
    section = "\n\n".join(parts)
    section = f"<!-- measured -->\n{section}\n<!-- /measured -->"
    return re.sub(r"<!-- measured -->.*?<!-- /measured -->", lambda _: section, text, flags=re.DOTALL)


def headlines() -> str:
    """What is asked, one line each whose record is there."""
    head = ["what is asked", "measure", "ours", "beside it", "difference", "record"]
    lines = [line(head), line(["---"] * len(head))]
    for one in HEADLINES:
        if (path := RESULTS / f"{one.record}.json").exists():
            lines.append(line(_cells(one, read_record(path))))
    return "\n".join(lines)


def trials() -> str:
    """What was done on purpose and what came of it, one line each whose record is there."""
    lines = [line(["what was done", "what came of it", "record"]), line(["---"] * 3)]
    for one in TRIALS:
        if (path := RESULTS / f"{one.record}.json").exists():
            record = read_record(path)
            rows = [row["metrics"] for row in record["rows"] if not one.splits or row["split"] in one.splits]
            sums = {name: sum(row.get(name, 0) for row in rows) for name in one.metrics}
            found = ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in sums.items())
            lines.append(line([one.done, found, f"{one.record}, {record['commit']}"]))
    return "\n".join(lines)


def searches() -> str:
    """Queries a second of ours, of the FAISS index that is best at each recall, and of other libraries."""
    record = read_record(RESULTS / "ann.json")
    groups: dict[str, list[str]] = {}
    for method in dict.fromkeys(row["method"] for row in record["rows"]):
        groups.setdefault(GRID if method.startswith("faiss ") else f"`{method}`", []).append(method)
    head = ["", *(f"{name}, {recall}" for name in SEARCHED.values() for recall in RECALLS)]
    lines = [line(head), line(["---"] * len(head))]
    for name, methods in groups.items():
        lines.append(line([name, *(_fastest(record, methods, split, at) for split in SEARCHED for at in RECALLS)]))
    return "\n".join([*lines, "", f"Record: ann, {record['commit']}."])


def _fastest(record: dict[str, Any], methods: list[str], split: str, recall: str) -> str:
    rows = [row["metrics"] for row in record["rows"] if row["split"] == split and row["method"] in methods]
    reached = [row[f"qps@{recall}"] for row in rows if f"qps@{recall}" in row]
    return f"{max(reached):,.0f}" if reached else "–"


def _cells(one: Headline, record: dict[str, Any]) -> list[str]:
    ours, theirs = _figure(record, one, one.ours), _figure(record, one, one.theirs)
    figures = f"{cell(theirs)} `{one.theirs}`"
    return [one.asked, one.metric, cell(ours), figures, _difference(record, one), f"{one.record}, {record['commit']}"]


def _figure(record: dict[str, Any], one: Headline, method: str) -> Any:
    """Of the first seed; of a paper where no row has that name."""
    for row in record["rows"]:
        if (row["method"], row["split"]) == (method, one.split) or row["split"] == method:
            return row["metrics"][one.metric]
    return record["published"][method][one.metric]


def _difference(record: dict[str, Any], one: Headline) -> str:
    """Paired, on the same people, of the first seed; – where the record has none."""
    for entry in record.get("differences", ()):
        names = entry["metric"], entry["ours"], entry["theirs"], entry.get("split", one.split)
        if names == (one.metric, one.ours, one.theirs, one.split):
            value, low, high = entry["difference"]
            return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"
    return "–"


if __name__ == "__main__":
    main()
