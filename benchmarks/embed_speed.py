"""python -m benchmarks.embed_speed [--data-dir DIR] [--only ENCODER ...] [--save]

How fast are catalogs embedded, beside the usual call of each encoder's own library? Both read the same contents with
the same weights, threads and batch size, in turns in one process; medians. Texts are made up where no films are given.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import open_clip
import polars as pl
import torch
from jaxtyping import Float
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import cosine_similarity

from benchmarks.gpu import random_picture_encoder
from benchmarks.record import Record
from towers import embed
from towers.embed import BATCH, Content, VectorCache
from towers.encoders.configs import AudioConfig, ImageConfig
from towers.encoders.contract import Encoder, encoder_class
from towers.encoders.openclip import NO_TEXT, OpenClip
from towers.precision import bf16_is_fast
from towers.text import TextConfig, TextEncoder
from towers.weights import resolve

TURNS = 5
COUNTS = {"text": 1536, "image": 192, "audio": 80}
WARM_UP = 32  # contents, before the first turn
TWICE = 0.1  # assumed share of contents that are there already, as with the variants of a product
SAME, SHIPPED, SHARED, KEPT = "float32", "as shipped", f"as shipped, {TWICE:.0%} twice", "all in the cache"
WAYS = (SAME, SHIPPED, SHARED, KEPT)
GOALS = {"text": 1.5, "image": 1.2, "audio": 1.2}  # as shipped; in the same precision 1
EQUAL = {False: 0.99999, True: 0.999}  # least cosine to the usual vectors, by whether bfloat16 computes

Usual = Callable[[Sequence[Any]], Float[Tensor, "n d"]]


@dataclass(frozen=True)
class Case:
    """An encoder, what it reads, and how else it is called.

    Args:
        encoder: its weights are the usual call's as well.
        contents: no two alike.
        usual: contents to vectors, float32 on the CPU.
        called: what the usual call is, for people.
    """

    encoder: Encoder
    contents: Sequence[Content]
    usual: Usual
    called: str


def main() -> None:
    """Run the benchmark."""
    options = _options()
    record, screen = Record("embed-speed"), Console(stderr=True, width=140)
    torch.manual_seed(0)
    turns, called = {}, {}
    table = Table("encoder", "way", "ours, a second", "usual, a second", "ratio", "least cosine")
    for name, make in CASES.items():
        if name not in (options.only or CASES):
            continue
        try:
            case = make(options.data_dir)
        except LeftOut as reason:
            screen.print(f"{name} is left out: {reason}")
            called[name] = f"left out: {reason}"
            continue
        seconds, cosines = measure(case, TURNS)
        turns[name], called[name] = seconds, case.called
        record.rows += rows(name, case.encoder.modality, len(case.contents), seconds, cosines)
    for row in record.rows:
        table.add_row(row["method"], row["split"], *(f"{value:,.5g}" for value in row["metrics"].values()))
    record.notes = {
        "usual calls": called,
        "protocol": f"{TURNS} turns, medians; a fresh cache each turn but for the last way; as shipped is "
        f"{'bfloat16' if bf16_is_fast(torch.device('cpu')) else 'float32, as bfloat16 is not fast here'}; the share of "
        "contents that are there twice is assumed",
        "threads": torch.get_num_threads(),
        "batch": BATCH,
        "missed": missed(record.rows),
        "turns": turns,
    }
    screen.print(table)
    screen.print("Goals missed: " + ("; ".join(record.notes["missed"]) or "none"))
    record.finish(save=options.save)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="folder with movies/ and esc10/")
    parser.add_argument("--only", nargs="*", choices=tuple(CASES), help="encoders to measure")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    return parser.parse_args()


def measure(case: Case, turns: int) -> tuple[dict[str, list[list[float]]], dict[str, float]]:
    """Each way against the usual call, in turns.

    Returns:
        By way, seconds ``[ours, usual]`` of each turn, and the least cosine of our vectors to the usual ones.
    """
    repeated = with_repeats(case.contents)
    seconds: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    cosines = dict.fromkeys(WAYS, 1.0)
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        kept = Path(scratch) / "kept"
        case.usual(case.contents[:WARM_UP])
        _ours(case, case.contents[:WARM_UP], Path(scratch) / "warm-up")
        _ours(case, case.contents, kept)
        for turn in range(turns):
            usual = {way: _timed(case.usual, contents) for way, contents in ((SAME, case.contents), (SHARED, repeated))}
            for way in WAYS:
                contents = repeated if way == SHARED else case.contents
                folder = kept if way == KEPT else Path(scratch) / f"{way} {turn}"
                spent, vectors = _timed(_ours, case, contents, folder, way != SAME)
                usual_spent, wanted = usual[SHARED if way == SHARED else SAME]
                seconds[way].append([spent, usual_spent])
                cosines[way] = min(cosines[way], float(cosine_similarity(vectors, wanted).min()))
    return seconds, cosines


def rows(
    name: str, modality: str, count: int, seconds: dict[str, list[list[float]]], cosines: dict[str, float]
) -> list[dict[str, Any]]:
    """One for each way; the ratio is that of the medians, above 1 where ours is faster."""
    found = []
    for way, turns in seconds.items():
        ours, usual = (statistics.median(column) for column in zip(*turns, strict=True))
        metrics = {
            "ours, a second": round(count / ours, 2),
            "usual, a second": round(count / usual, 2),
            "ratio": round(usual / ours, 3),
            "least cosine": round(cosines[way], 7),
        }
        found.append({"method": name, "split": way, "seed": 0, "modality": modality, "metrics": metrics})
    return found


def missed(found: Sequence[dict[str, Any]]) -> list[str]:
    """Which rows are slower than their goal, or have vectors too far from the usual ones."""
    said = []
    for row in found:
        way, metrics = row["split"], row["metrics"]
        goal = 1.0 if way == SAME else GOALS[row["modality"]]
        equal = EQUAL[way != SAME and bf16_is_fast(torch.device("cpu"))]
        if metrics["ratio"] < goal:
            said.append(f"{row['method']}, {way}: ratio {metrics['ratio']}, {goal} wanted")
        if metrics["least cosine"] < equal:
            said.append(f"{row['method']}, {way}: least cosine {metrics['least cosine']}, {equal} wanted")
    return said


def with_repeats(contents: Sequence[Content]) -> list[Content]:
    """As many contents, the share `TWICE` of them repeats of others, in random order."""
    rng = np.random.default_rng(0)
    distinct = len(contents) - round(TWICE * len(contents))
    chosen = np.concatenate([np.arange(distinct), rng.choice(distinct, len(contents) - distinct, replace=False)])
    return [contents[n] for n in rng.permutation(chosen)]


def _timed(call: Callable[..., Tensor], *arguments: Any) -> tuple[float, Tensor]:
    started = time.perf_counter()
    vectors = call(*arguments)
    return time.perf_counter() - started, vectors


def _ours(case: Case, contents: Sequence[Content], folder: Path, shipped: bool = True) -> Tensor:
    """As it ships, or as on hardware that is not fast at bfloat16."""
    bf16 = shipped and bf16_is_fast(case.encoder.device)
    with patch.object(embed, "bf16_is_fast", lambda _: bf16):
        return VectorCache(folder).embed(case.encoder, contents).vectors


class LeftOut(Exception):
    """Why an encoder is not measured."""


def _text(data_dir: Path | None) -> Case:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise LeftOut("sentence-transformers, whose call is the usual one, cannot be imported") from error
    encoder = TextEncoder.load(TextConfig())
    theirs = SentenceTransformer(resolve(encoder.config.source), device="cpu")
    theirs.max_seq_length = encoder.config.max_tokens

    def usual(texts: Sequence[str]) -> Tensor:
        found = theirs.encode(list(texts), batch_size=BATCH["text"], show_progress_bar=False, convert_to_tensor=True)
        return found.float()

    return Case(encoder, read_texts(data_dir, COUNTS["text"]), usual, "SentenceTransformer.encode")


def read_texts(data_dir: Path | None, count: int) -> list[str]:
    """Titles, titles with genres, first sentences and whole descriptions of films, in turn; else made-up words."""
    if not _has(data_dir, "movies"):
        rng = np.random.default_rng(0)
        return [" ".join(f"word{word}" for word in rng.integers(5000, size=3 + n % 120)) for n in range(count)]
    films = pl.read_parquet(data_dir / "movies" / "items.parquet").filter(pl.col("description").str.len_chars() > 0)
    kinds = [
        pl.format("{} ({})", "title", "year"),
        pl.format("{} ({}), {}", "title", "year", "genres"),
        pl.col("description").str.split(". ").list.first(),
        pl.col("description"),
    ]
    texts = films.select(pl.concat_list(kinds).alias("text"))["text"].to_list()
    return list(dict.fromkeys(kind[n % len(kinds)] for n, kind in enumerate(texts)))[:count]


def _lite0(data_dir: Path | None) -> Case:
    return _pictures(encoder_class("image", ImageConfig().source).load(ImageConfig()), data_dir)


def _vit(data_dir: Path | None) -> Case:
    return _pictures(random_picture_encoder("ViT-B-32"), data_dir)


def _pictures(encoder: OpenClip, data_dir: Path | None) -> Case:
    if not _has(data_dir, "movies"):
        raise LeftOut("pictures need --data-dir DIR with the folder movies/")
    model = open_clip.CLIP(**encoder.shape["model"], text_cfg=NO_TEXT).eval()
    model.visual = encoder.visual

    def usual(paths: Sequence[Path]) -> Tensor:
        size = BATCH["image"]
        batches = [paths[start : start + size] for start in range(0, len(paths), size)]
        read = (torch.stack([encoder.preprocess(Image.open(path)) for path in batch]) for batch in batches)
        return torch.cat([model.encode_image(batch) for batch in read])

    return Case(
        encoder,
        _distinct((data_dir / "movies" / "posters").glob("*.jpg"), COUNTS["image"]),
        usual,
        "open_clip's preprocess picture after picture, then encode_image batch after batch",
    )


def _sounds(source: str) -> Callable[[Path | None], Case]:
    def make(data_dir: Path | None) -> Case:
        if not _has(data_dir, "esc10"):
            raise LeftOut("sounds need --data-dir DIR with the folder esc10/")
        encoder = encoder_class("audio", source).load(AudioConfig(source=source))

        def usual(paths: Sequence[Path]) -> Tensor:
            return torch.cat([encoder.encode([encoder.prepare(path)]) for path in paths])

        clips = _distinct((data_dir / "esc10" / "audio").glob("*.ogg"), COUNTS["audio"])
        return Case(encoder, clips, usual, "this project's own module, clip after clip: no other runs it in torch")

    return make


CASES: dict[str, Callable[[Path | None], Case]] = {
    "minilm": _text,
    "efficientnet-lite0": _lite0,
    "random-vit-b-32": _vit,
    "yamnet": _sounds("yamnet"),
    "musicnn": _sounds("musicnn"),
}


def _has(data_dir: Path | None, name: str) -> bool:
    return data_dir is not None and (data_dir / name).is_dir()


def _distinct(paths: Iterable[Path], count: int) -> list[Path]:
    """The first `count` files by name, of equal ones only one."""
    first: dict[bytes, Path] = {}
    for path in sorted(paths):
        first.setdefault(path.read_bytes(), path)
        if len(first) == count:
            break
    return list(first.values())


if __name__ == "__main__":
    main()
