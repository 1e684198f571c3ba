"""Sentences kept out of items' texts while training, to choose by how well they find their items."""

from __future__ import annotations

import re
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
        sentences: Q sentences without the title.
    """

    rows: np.ndarray
    sentences: list[str]


def hold_out_sentences(catalog: Catalog, columns: list[str], seed: int) -> tuple[Catalog, Asked]:
    """Take a sentence out of the prose of some items, at most a tenth of them.

    The item's title is left out of what is asked: who knows it need not describe the item.

    Args:
        catalog: N items.
        columns: those that make an item's text.
        seed: chooses items and sentences.

    Returns:
        The catalog without the sentences, and the sentences; none where no column has prose of two sentences.
    """
    rng, titles = np.random.default_rng(seed), catalog.titles
    prose = {name: values for name in columns if (values := _strings(catalog, name)) and is_prose(values)}
    able = [(row, name) for name in prose for row in range(len(catalog)) if _spare(prose[name][row], titles[row])]
    chosen = {able[place][0]: able[place][1] for place in rng.permutation(len(able))}
    count = min(MOST, len(catalog) // 10, len(chosen))
    if count < FEWEST:
        return catalog, Asked(np.empty(0, np.int64), [])
    asked: dict[int, str] = {}
    for row, name in sorted(list(chosen.items())[:count]):
        spare = _spare(prose[name][row], titles[row])
        out = int(rng.choice(list(spare)))
        asked[row] = spare[out]
        prose[name][row] = " ".join(part for n, part in enumerate(sentences_of(prose[name][row])) if n != out)
    table = catalog.table
    for name, values in prose.items():
        column = pa.array([value or None for value in values], table[name].type)
        table = table.set_column(table.column_names.index(name), name, column)
    return Catalog(replace(catalog.loaded, table=table)), Asked(np.array(list(asked), np.int64), list(asked.values()))


def _strings(catalog: Catalog, name: str) -> list[str]:
    """The values of a column of strings; of any other none."""
    column = catalog.table[name]
    return [value or "" for value in column.to_pylist()] if pa.types.is_large_string(column.type) else []


def _spare(prose: str, title: str) -> dict[int, str]:
    """The sentences that may be asked, without the title, by their place; none where there is only one sentence."""
    parts = sentences_of(prose)
    untitled = [re.sub(re.escape(title), "", part, flags=re.IGNORECASE).strip() for part in parts]
    return {n: part for n, part in enumerate(untitled) if len(parts) > 1 and len(part.split()) >= LEAST_WORDS}
