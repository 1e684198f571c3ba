"""Vectors for `benchmarks.ann`: sentences of Debian's package descriptions, and generated ones asked from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from indexing.vectors import unit

SHORTEST, LONGEST = 20, 300  # characters of a sentence
TOKENS = 64
AT_ONCE = 20_000  # sentences embedded in one call, each with some of every length
RANK, CENTRES = 32, 2_000  # of the generated mixture
AWAY = 0.6  # how far the centres of queries lie from those of items, in lengths of these


@dataclass(frozen=True)
class Data:
    """What is indexed and asked.

    Args:
        name: the split.
        vectors: float32 ``(N, D)``, unit norm.
        queries: float32 ``(Q, D)``, unit norm, none of them indexed.
    """

    name: str
    vectors: np.ndarray
    queries: np.ndarray

    def write(self, folder: Path) -> None:
        """Keep it in this folder, the queries last."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "vectors.npy", self.vectors)
        np.save(folder / "queries.npy", self.queries)

    @classmethod
    def read(cls, folder: Path) -> Data | None:
        """What is kept in this folder, which has its name; None where nothing is."""
        if not (folder / "queries.npy").exists():
            return None
        return cls(folder.name, np.load(folder / "vectors.npy"), np.load(folder / "queries.npy"))


def debian(lists: Path, cache: Path, items: int, queries: int) -> Data:
    """Sentences of Debian's package descriptions in English, read by the text encoder; some are kept as queries.

    Args:
        lists: folder with ``*Translation-en.lz4``, as `apt-get update` leaves with ``Acquire::Languages=en``.
        cache: folder of a `VectorCache`, with which a run that was stopped goes on.
        items: how many are indexed, drawn by chance.
        queries: how many are asked.
    """
    from towers.embed import VectorCache  # these bring torch, which generated vectors do without
    from towers.text import TextConfig, TextEncoder

    found = sentences(lists)
    drawn = [found[n] for n in np.random.default_rng(0).permutation(len(found))[: items + queries]]
    encoder = TextEncoder.load(TextConfig(max_tokens=TOKENS)).eval()
    parts = []
    for start in range(0, len(drawn), AT_ONCE):
        parts.append(VectorCache(cache).embed(encoder, drawn[start : start + AT_ONCE], progress=True).vectors.numpy())
    vectors = unit(np.concatenate(parts))
    return Data(f"debian-{len(vectors) - queries}", vectors[queries:], vectors[:queries])


def sentences(lists: Path) -> list[str]:
    """The different sentences of all descriptions, in their order."""
    found = {
        sentence: None
        for path in sorted(lists.glob("*Translation-en.lz4"))
        for paragraph in _paragraphs(path)
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", paragraph)
        if SHORTEST <= len(sentence) <= LONGEST
    }
    return list(found)


def _paragraphs(path: Path) -> Iterator[str]:
    """The short description of each package, then its paragraphs; lines set apart by two spaces stand alone."""
    with pa.input_stream(str(path), compression="lz4") as file:
        packages = file.read().decode().split("\n\n")
    for package in packages:
        _, _, description = package.partition("Description-en: ")
        paragraph: list[str] = []
        for line in description.split("\n"):
            if line.startswith(" ") and not line.startswith("  ") and line != " .":
                paragraph.append(line.strip())
                continue
            yield " ".join(paragraph)
            paragraph = []
            yield line.strip()
        yield " ".join(paragraph)


def mixture(count: int, dimension: int, queries: int) -> Data:
    """A mixture of clouds near a subspace of few dimensions, of sizes by Zipf's law; asked from beside their centres.

    Queries of a two-tower model lie so: on a side of the items, not among them.
    """
    generator = np.random.default_rng(0)
    rank = min(RANK, dimension)
    basis = np.linalg.qr(generator.normal(size=(dimension, rank)))[0].T.astype(np.float32)
    centres = generator.normal(size=(CENTRES, rank)).astype(np.float32)
    shift = generator.normal(size=(CENTRES, rank)).astype(np.float32) * AWAY
    shares = 1 / np.arange(1, CENTRES + 1) ** 0.75
    shares /= shares.sum()

    def drawn(size: int, middles: np.ndarray) -> np.ndarray:
        near = middles[generator.choice(CENTRES, size, p=shares)]
        near += 0.5 * generator.standard_normal((size, rank), np.float32)
        return unit(near @ basis + 0.05 * generator.standard_normal((size, dimension), np.float32))

    return Data(f"mixture-{count}", drawn(count, centres), drawn(queries, centres + shift))
