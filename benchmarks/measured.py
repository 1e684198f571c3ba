"""Every table of the records in ``benchmarks/results`` in Markdown, which is what docs/measured.md holds."""

from __future__ import annotations

from typing import Any

from benchmarks.record import RESULTS, read_record

OPENING = """# Measured

Every table, each with its command, machine and protocol; written by `python -m benchmarks.readme` from the records in
`benchmarks/results`, where also `LOG.md` tells what was tried, what failed and why."""
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
    "ablation-negatives": (
        "Where the softmax is sampled: what each source of negatives and each correction earns",
        ("recall@20", "ndcg@20", "recall@20/tail", "debiased-ndcg@20", "coverage@20", "gini@20"),
    ),
    "ablation-films": (
        "What each part earns: films with descriptions, posters and trailers, a tenth of them new",
        ("recall@20", "recall@20/cold", "ndcg@20", "coverage@20", "gini@20"),
    ),
    "multi-objective": (
        "Ratings and clicks as objectives beside the contrastive one",
        ("recall@20", "rmse", "ndcg@20", "coverage@20"),
    ),
    "interests": (
        "Several interests of a person: what they earn and cost",
        ("recall@20", "genres@10", "ndcg@20", "recall@20/tail", "coverage@20", "step_ms", "encode_ms", "search_ms"),
    ),
    "regimes": (
        "How much of BERT is trained: the text reader alone",
        ("recall@20", "ndcg@20", "trained_m", "trained_of_bert_m", "peak_mb", "first_epoch_s", "epoch_s"),
    ),
    "training-speed": (
        "Fine-tuning the text encoder beside sentence-transformers: times as fast as the same, and as its usual way",
        (
            "ndcg@20",
            "recall@20",
            "epoch_s",
            "first_epoch_s",
            "ratio",
            "whole_ratio",
            "ratio_usual",
            "whole_ratio_usual",
        ),
    ),
    "movies-leave-one-out": (
        "Films, leave-one-out: what descriptions, posters and trailers add to ids and titles",
        ("recall@20", "ndcg@20", "recall@20/tail", "coverage@20"),
    ),
    "movies-given": (
        "Films of MovieLens-1M in time order, as published: what descriptions, posters and trailers add",
        ("recall@10", "ndcg@10", "recall@20", "ndcg@20", "recall@20/tail", "coverage@20"),
    ),
    "movies-temporal": (
        "Films, the last tenth of all events: what descriptions, posters and trailers add",
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
    "ml-1m": (
        "MovieLens-1M in time order, as published: 6,040 people, 3,416 films",
        ("recall@10", "ndcg@10", "recall@20", "ndcg@20", "recall@20/tail", "coverage@20", "gini@20"),
    ),
    "ml-1m-ids": (
        "The same by ids alone",
        ("recall@10", "ndcg@10", "recall@20", "ndcg@20", "recall@20/tail", "coverage@20", "gini@20"),
    ),
    "ml-1m-sets": (
        "MovieLens-1M without times, as published: 6,040 people, 3,260 films",
        ("recall@20", "ndcg@20", "recall@20/tail", "coverage@20", "gini@20"),
    ),
    "rerank": (
        "Steps of re-ranking, each alone behind the rating head: what they give and take",
        ("ndcg@10", "diversity@10", "diversity@10/vectors", "novelty@10", "tail@10", "coverage", "gini", "ms"),
    ),
    "explain": (
        "Reasons: what a score loses without what the reason names, and without as much else",
        ("deletion", "random_deletion", "similar_deletion", "remainder, median share", "ms", "p95 ms"),
    ),
    "refresh": ("Ten days of a log replayed: refreshed each day, beside the first model", ("recall@20", "ndcg@20")),
    "serve-load": (
        "The service under load, 100,000 items, clients on the same two cores",
        ("rps", "p50_ms", "p95_ms", "p99_ms", "errors", "refused"),
    ),
    "scale": (
        "An index as it grows, and one built under a limit of a quarter of its vectors",
        ("build_s", "qps@.95", "bytes_per_item", "recall@10", "limit_bytes", "vectors_bytes", "in_memory_failed"),
    ),
    "ann": (
        "Approximate search beside other libraries: queries a second at a recall@10",
        ("qps@.90", "qps@.95", "qps@.99", "qps@.95/two-threads", "qps@.95/alone", "build_s", "bytes_per_item"),
    ),
    "ann-overhead": (
        "What a search takes beyond the bare FAISS call: times as much in a batch of 1,000, microseconds alone",
        ("overhead", "bare µs a query", "overhead µs alone", "bare µs alone"),
    ),
    "readers": (
        "Eight processes search an index, alone and while all of it is replaced and published again and again",
        ("searches", "errors", "mixed", "versions", "p50_ms", "p99_ms", "p99_ratio"),
    ),
    "embed-scale": (
        "An index built over Ray, and builds that were killed: the same bits, at most one shard twice",
        ("build_s", "items_per_second", "speedup", "same_bits", "kills", "repeated_a_kill"),
    ),
    "esc10": ("ESC-10: what sounds the encoders tell apart", ("accuracy",)),
    "stamps": ("Stamps: pictures, captions and sounds without any log", ("recall@1", "recall@10", "median_rank")),
}
"""Title and metrics of the records that have a section of their own."""
MISSING = {
    "missing": "Missing content in the generated shop: Recall@20 by the percent of tracks from which it is taken",
    "missing-films": "Missing content of films: Recall@20 by the percent of films from which it is taken",
}
STUDIO = "Studio, a generated music shop whose listeners' taste has parts for text, cover and sound"
COLD = ("recall@20", "ndcg@20", "recall@20/cold", "coverage@20")
RANKING = ("recall@20", "ndcg@20", "recall@20/tail", "coverage@20", "gini@20", "recall@100")


def page() -> str:
    """The whole document."""
    sections = [OPENING, measured(read_record(RECORD))]
    if FULL.exists():
        sections.append(further(read_record(FULL)))
    for name, (title, metrics) in PARTS.items():
        if (path := RESULTS / f"{name}.json").exists():
            sections.append(part(read_record(path), title, metrics))
    for name, title in MISSING.items():
        if (path := RESULTS / f"{name}.json").exists():
            sections.append(missing(read_record(path), title))
    if (path := RESULTS / "studio.json").exists():
        sections.append(studio(read_record(path)))
    return "\n\n".join(sections) + "\n"


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
    told = [entry for entry in record.get("differences", ()) if entry["metric"] in metrics[:2]]
    parts = [f"**{title}**, {_origin(record)}. Protocol: {record['protocol'].rstrip('.')}."]
    parts.append(_table(record["rows"], metrics, split=True))
    if record.get("published"):
        papers = (
            f"{name} {figures['recall@10']} and {figures['ndcg@10']}" for name, figures in record["published"].items()
        )
        parts.append(f"Recall@10 and NDCG@10 published on these files: {'; '.join(papers)}.")
    return "\n\n".join([*parts, "Paired differences:", _differences(told)] if told else parts)


def studio(record: dict[str, Any]) -> str:
    """Recall@20 of each method, a column for each set of questions, first seed; the record has them all."""
    rows = [row for row in record["rows"] if row["seed"] == 0]
    splits = list(dict.fromkeys(row["split"] for row in rows))
    lines = [line(["recall@20", *splits]), line(["---"] * (1 + len(splits)))]
    for method in dict.fromkeys(row["method"] for row in rows):
        found = {row["split"]: row["metrics"]["recall@20"] for row in rows if row["method"] == method}
        lines.append(line([f"`{method}`", *(cell(found.get(split)) for split in splits)]))
    told = [entry for entry in record["differences"] if entry["seed"] == 0]
    heads = [f"**{STUDIO}**, {_origin(record)}. Protocol: {record['protocol'].rstrip('.')}.", "\n".join(lines)]
    return "\n\n".join([*heads, "Paired differences, first of three seeds:", _differences(told)])


def missing(record: dict[str, Any], title: str) -> str:
    """Recall@20 of each method and kind of content, a column for each share that is missing; then what half costs."""
    found = {(row["method"], row["split"]): row["metrics"]["recall@20"] for row in record["rows"]}
    kinds = list(dict.fromkeys(split.rsplit("-", 1)[0] for _, split in found))
    shares = list(dict.fromkeys(split.rsplit("-", 1)[1] for _, split in found))
    lines = [line(["missing", "method", *(f"{share} %" for share in shares)]), line(["---"] * (2 + len(shares)))]
    for kind in kinds:
        for method in dict.fromkeys(method for method, _ in found):
            cells = [cell(found[method, f"{kind}-{share}"]) for share in shares]
            lines.append(line([kind.removeprefix("missing-"), f"`{method}`", *cells]))
    told = [
        f"`{ours}` {kind} {'–' if lost['quotient'] is None else cell(lost['quotient'])}"
        for ours, halves in record["lost"].items()
        for kind, lost in halves["at 50 %"].items()
    ]
    heads = [f"**{title}**, {_origin(record)}. Protocol: {record['protocol'].rstrip('.')}.", "\n".join(lines)]
    half = "Lost at half, as a part of what zeros lose (– where they lose nothing for certain)"
    return "\n\n".join([*heads, f"{half}: {'; '.join(told)}."])


def _origin(record: dict[str, Any]) -> str:
    return (
        f"`{record['command']}` on {record['machine']}; {record['seconds'] / 60:.0f} minutes{_before(record)}, commit "
        f"{record['commit']}, {record['date']}"
    )


def _before(record: dict[str, Any]) -> str:
    """How long training took, without refits, where two jobs at a time cannot have done it in the run."""
    seconds = sum(job.get("seconds") or 0.0 for job in record.get("jobs", {}).values())
    kept = seconds > 2 * record["seconds"]
    return f" after at least {seconds / 60:.0f} of training, whose models were kept" if kept else ""


def _table(rows: list[dict[str, Any]], metrics: tuple[str, ...], split: bool = False) -> str:
    head = ["method", *(["questions"] if split else []), "seed", *metrics]
    lines = [line(head), line(["---"] * len(head))]
    for row in rows:
        cells = [f"`{row['method']}`", *([row["split"]] if split else []), str(row["seed"])]
        lines.append(line(cells + [cell(row["metrics"].get(name)) for name in metrics]))
    return "\n".join(lines)


def _differences(entries: list[dict[str, Any]]) -> str:
    lines = [line(["ours − theirs", "split", "seed", "metric", "difference"]), line(["---"] * 5)]
    for entry in entries:
        value, low, high = entry["difference"]
        pair = f"`{entry['ours']}` − `{entry['theirs']}`"
        figure = f"{value:+.3f} ({low:+.3f} to {high:+.3f})"
        lines.append(line([pair, entry.get("split", "leave-one-out"), str(entry["seed"]), entry["metric"], figure]))
    return "\n".join(lines)


def line(cells: list[str]) -> str:
    """A row of a table."""
    return "| " + " | ".join(cells) + " |"


def cell(value: float | list[float] | None) -> str:
    """A figure, with its interval where it has one."""
    if value is None:
        return "–"
    if isinstance(value, list):
        return f"{value[0]:.3f} ({value[1]:.3f}–{value[2]:.3f})"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
