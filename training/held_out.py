"""Sentences kept out of items' texts while training, to choose by how well they find their items."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from towers.catalog import Catalog
from training.sentences import is_prose, sentences_of

MOST = 300  # sentences; choosing by them takes seconds
FEWEST = 30  # with fewer nothing could be told
LEAST_WORDS = 6  # of a sentence that may be asked


@dataclass(frozen=True)
class Asked:
    """Q sentences and the catalog row of the item that each speaks of.

    Args:
        rows: int64 ``(Q,)``.
        sentences: Q sentences.
    """

    rows: np.ndarray
    sentences: list[str]


def hold_out_sentences(catalog: Catalog, columns: list[str], seed: int) -> tuple[Catalog, Asked]:
    """Take a sentence out of the prose of some items, at most a tenth of them.

    Args:
        catalog: N items.
        columns: those that make an item's text.
        seed: chooses items and sentences.

    Returns:
        The catalog without the sentences, and the sentences; none where no column has prose of two sentences.
    """
    rng = np.random.default_rng(seed)
    prose = {name: values for name in columns if (values := _strings(catalog, name)) and is_prose(values)}
    able = [(row, name) for name, values in prose.items() for row, value in enumerate(values) if _can_spare(value)]
    chosen = {able[place][0]: able[place][1] for place in rng.permutation(len(able))}
    count = min(MOST, len(catalog) // 10, len(chosen))
    if count < FEWEST:
        return catalog, Asked(np.empty(0, np.int64), [])
    asked: dict[int, str] = {}
    for row, name in sorted(list(chosen.items())[:count]):
        parts = sentences_of(prose[name][row])
        out = int(rng.choice([n for n, part in enumerate(parts) if _long_enough(part)]))
        asked[row] = parts.pop(out)
        prose[name][row] = " ".join(parts)
    table = catalog.table
    for name, values in prose.items():
        column = pa.array([value or None for value in values], table[name].type)
        table = table.set_column(table.column_names.index(name), name, column)
    return Catalog(replace(catalog.loaded, table=table)), Asked(np.array(list(asked), np.int64), list(asked.values()))


def _strings(catalog: Catalog, name: str) -> list[str]:
    """The values of a column of strings; of any other none."""
    column = catalog.table[name]
    return [value or "" for value in column.to_pylist()] if pa.types.is_large_string(column.type) else []


def _can_spare(prose: str) -> bool:
    sentences = sentences_of(prose)
    return len(sentences) > 1 and any(map(_long_enough, sentences))


def _long_enough(sentence: str) -> bool:
    return len(sentence.split()) >= LEAST_WORDS
