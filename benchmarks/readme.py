"""python -m benchmarks.readme

Writes the tables of the README from the records in ``benchmarks/results``, so that no figure in it can drift.
"""

from __future__ import annotations

import re
from typing import Any

from benchmarks.record import RESULTS, ROOT, read_record

RECORD = RESULTS / "movielens-100k.json"
FULL = RESULTS / "movielens-100k-full.json"
FURTHER = {
    "temporal": "Temporal split: the last tenth of all events, everybody refitted on what came before",
    "temporal-newcomers": "Temporal split, people without any event before",
    "cold-items": "Cold items: a tenth of the films without any training event; the last fifth of each person is asked",
}
PARTS = {
    "ablation": (
        "What each part earns: MovieLens-100K, one part switched off at a time",
        ("recall@20", "ndcg@20", "recall@20/tail", "coverage@20", "gini@20"),
    ),
    "multi-objective": (
        "Ratings and clicks as objectives beside the contrastive one",
        ("recall@20", "rmse", "ndcg@20", "coverage@20"),
    ),
    "movies-leave-one-out": (
        "Films, leave-one-out: what descriptions, posters and trailers add to ids and titles",
        ("recall@20", "ndcg@20", "recall@20/tail", "coverage@20"),
    ),
    "movies-cold-items": (
        "Films, a tenth of them new: what descriptions, posters and trailers add",
        ("recall@20", "recall@20/cold", "ndcg@20", "coverage@20"),
    ),
    "moment": (
        "The moment: histories that follow each event, beside frozen ones and a model that learned on once",
        ("recall@20",),
    ),
    "cold-people": (
        "Someone new: Recall@20 after so many answers",
        ("recall@20/1", "recall@20/10", "recall@20/0", "recall@20/3", "recall@20/5"),
    ),
    "amazon-beauty": (
        "Amazon Beauty, as published: 22,363 people, 12,101 items",
        ("recall@10", "ndcg@10", "recall@20/tail", "coverage@20", "gini@20"),
    ),
    "stamps": ("Stamps: pictures, captions and sounds without any log", ("recall@1", "recall@10", "median_rank")),
}
INDEX = {
    "lifecycle": ("random changes, searches, roll backs and reopenings, beside plain Python", "operations differences"),
    "kill": ("SIGKILLs while items are added, removed, compacted and published", "kills lost duplicated wrong"),
    "corrupt": ("damaged indexes and full disks", "files crashes wrong_answers"),
}
"""What each benchmark of an index's life does, and the metrics that count."""
STUDIO = "Studio, a generated music shop whose listeners' taste has parts for text, cover and sound"
"""Title and metrics of the records that have a section of their own."""
COLD = ("recall@20", "ndcg@20", "recall@20/cold", "coverage@20")
RANKING = ("recall@20", "ndcg@20", "recall@20/tail", "coverage@20", "gini@20", "recall@100")


def main() -> None:
    """Replace what stands between the markers."""
    readme = ROOT / "README.md"
    readme.write_text(with_tables(readme.read_text("utf-8")), "utf-8")


def with_tables(text: str) -> str:
    """The README with its measured section made anew."""
    section = measured(read_record(RECORD))
    if FULL.exists():
        section += "\n\n" + further(read_record(FULL))
    for name, (title, metrics) in PARTS.items():
        if (path := RESULTS / f"{name}.json").exists():
            section += "\n\n" + part(read_record(path), title, metrics)
    if (path := RESULTS / "studio.json").exists():
        section += "\n\n" + studio(read_record(path))
    if all((RESULTS / f"{name}.json").exists() for name in INDEX):
        section += "\n\n" + index({name: read_record(RESULTS / f"{name}.json") for name in INDEX})
    pattern = r"<!-- measured -->.*?<!-- /measured -->"
    return re.sub(pattern, lambda _: f"<!-- measured -->\n{section}\n<!-- /measured -->", text, flags=re.DOTALL)


def measured(record: dict[str, Any]) -> str:
    """All tables of the MovieLens-100K benchmark in Markdown."""
    rows = record["rows"]
    parts = [
        f"{_origin(record)}. Protocol: {record['protocol']}.",
        "**MovieLens-100K, leave-one-out** (95 % interval):",
        _table([row for row in rows if row["split"] == "leave-one-out"], RANKING),
        "Paired differences on the same people:",
        _differences(record["differences"]),
        "**Plain sentences** → the items they describe:",
        _table([row for row in rows if row["split"].endswith("-query")], ("recall@20", "ndcg@20"), split=True),
        "**Ratings**, a random tenth held out, in stars:",
        _table([row for row in rows if row["split"] == "ratings"], ("rmse", "mae")),
    ]
    return "\n\n".join(parts)


def further(record: dict[str, Any]) -> str:
    """The tables of the protocols beyond leave-one-out, as far as the record has them."""
    rows = record["rows"]
    parts = [f"Further protocols, {_origin(record)}; what each asks is told in docs/protocols.md."]
    for split, title in FURTHER.items():
        chosen = [row for row in rows if row["split"] == split]
        if chosen:
            metrics = COLD if split == "cold-items" else RANKING
            parts += [f"**{title}**:", _table(chosen, tuple(name for name in metrics if name in chosen[0]["metrics"]))]
    few = [row for row in rows if row["split"].startswith("cold-items-among")]
    if few:
        parts += [
            "The same model's cold targets ranked among the cold items, and its warm ones among as many warm items "
            "(mean of twenty seeded draws):",
            _table(few, ("recall@20/cold", "recall@20/warm"), split=True),
        ]
    stars = [row for row in rows if row["split"].startswith("reranking")]
    if stars:
        parts += [
            "**Re-ranking by predicted stars**, NDCG@10 with stars as gains, the last fifth of each person:",
            _table(stars, ("graded-ndcg@10", "weight"), split=True),
        ]
    parts += ["Paired differences on the same people:", _differences(record["differences"])]
    return "\n\n".join(parts)


def part(record: dict[str, Any], title: str, metrics: tuple[str, ...]) -> str:
    """One table of all rows of a record, and the differences in its first two metrics."""
    told = [entry for entry in record["differences"] if entry["metric"] in metrics[:2]]
    parts = [f"**{title}**, {_origin(record)}. Protocol: {record['protocol'].rstrip('.')}."]
    parts.append(_table(record["rows"], metrics, split=True))
    if "published" in record:
        papers = (
            f"{name} {figures['recall@10']} and {figures['ndcg@10']}" for name, figures in record["published"].items()
        )
        parts.append(f"Recall@10 and NDCG@10 published on these files: {'; '.join(papers)}.")
    return "\n\n".join([*parts, "Paired differences:", _differences(told)] if told else parts)


def studio(record: dict[str, Any]) -> str:
    """Recall@20 of each method, a column for each set of questions, first seed; the record has them all."""
    rows = [row for row in record["rows"] if row["seed"] == 0]
    splits = list(dict.fromkeys(row["split"] for row in rows))
    lines = [_line(["recall@20", *splits]), _line(["---"] * (1 + len(splits)))]
    for method in dict.fromkeys(row["method"] for row in rows):
        found = {row["split"]: row["metrics"]["recall@20"] for row in rows if row["method"] == method}
        lines.append(_line([f"`{method}`", *(_cell(found.get(split)) for split in splits)]))
    told = [entry for entry in record["differences"] if entry["seed"] == 0]
    heads = [f"**{STUDIO}**, {_origin(record)}. Protocol: {record['protocol'].rstrip('.')}.", "\n".join(lines)]
    return "\n\n".join([*heads, "Paired differences, first of three seeds:", _differences(told)])


def index(records: dict[str, dict[str, Any]]) -> str:
    """A line for each benchmark of an index's life, the figures of all kinds together."""
    lines = [_line(["benchmark", "what is tried", "found", "run"]), _line(["---"] * 4)]
    for name, (what, metrics) in INDEX.items():
        record = records[name]
        rows = [row["metrics"] for row in record["rows"] if row["split"] in ("generated", "all")]
        found = [f"{sum(row[metric] for row in rows):,} {metric.replace('_', ' ')}" for metric in metrics.split()]
        lines.append(_line([f"`{record['command']}`", what, ", ".join(found), f"{record['commit']}, {record['date']}"]))
    title = "**The life of an index**, on Flat, HNSW, IVF and IVF with refined product quantisation:"
    return "\n\n".join([title, "\n".join(lines)])


def _origin(record: dict[str, Any]) -> str:
    return (
        f"`{record['command']}` on {record['machine']}; {record['seconds'] / 60:.0f} minutes, commit "
        f"{record['commit']}, {record['date']}"
    )


def _table(rows: list[dict[str, Any]], metrics: tuple[str, ...], split: bool = False) -> str:
    head = ["method", *(["questions"] if split else []), "seed", *metrics]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        cells = [f"`{row['method']}`", *([row["split"]] if split else []), str(row["seed"])]
        lines.append(_line(cells + [_cell(row["metrics"].get(name)) for name in metrics]))
    return "\n".join(lines)


def _differences(entries: list[dict[str, Any]]) -> str:
    lines = [_line(["ours − theirs", "split", "seed", "metric", "difference"]), _line(["---"] * 5)]
    for entry in entries:
        value, low, high = entry["difference"]
        pair = f"`{entry['ours']}` − `{entry['theirs']}`"
        figure = f"{value:+.3f} ({low:+.3f} to {high:+.3f})"
        lines.append(_line([pair, entry.get("split", "leave-one-out"), str(entry["seed"]), entry["metric"], figure]))
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: float | list[float] | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return f"{value[0]:.3f} ({value[1]:.3f}–{value[2]:.3f})"
    return f"{value:.3f}"


if __name__ == "__main__":
    main()
