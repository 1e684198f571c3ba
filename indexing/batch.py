"""What a store may be given, checked before anything is changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from indexing.attributes import as_attributes
from indexing.vectors import check_vectors
from towers.errors import InputError
from towers.ids import Id, IdList, as_id_array, cast_exact

NAMED = 3


class Make(NamedTuple):
    """What all items of a store share.

    Args:
        ids: type of the ids, int64 or large_string.
        dimension: length D of a vector.
        space: fingerprint of the vector space, "" for vectors of one's own.
        attributes: columns of the attributes; None where there are none.
    """

    ids: pa.DataType
    dimension: int
    space: str
    attributes: pa.Schema | None


class Batch(NamedTuple):
    """Items to put.

    Args:
        ids: n different ones.
        vectors: float32 ``(n, D)``.
        attributes: n rows; None where the store has none.
    """

    ids: pa.Array
    vectors: np.ndarray
    attributes: pa.Table | None


def checked_batch(ids: Iterable[Id], vectors: np.ndarray, attributes: Any, space: str, make: Make) -> Batch:
    """A batch to put, if a store of this make can take it.

    Raises:
        InputError: no items, some that come twice, vectors or attributes that do not fit, or another space.
    """
    wanted = checked_ids(ids, make.ids)
    check_vectors(vectors, make.dimension)
    if len(vectors) != len(wanted):
        raise InputError(f"there are {len(wanted)} ids for {len(vectors)} vectors, expected one for each")
    if space != make.space:
        raise InputError(
            f"the vectors are of the space {str(space)[:12]!r}, the index of {make.space[:12]!r}: vectors of two "
            "spaces cannot be compared; build an index of all items with one model"
        )
    if (attributes is None) != (make.attributes is None):
        has = "has no attributes" if make.attributes is None else "has attributes, and every item needs them"
        raise InputError(f"this index {has}; got {'none' if attributes is None else 'some'}")
    table = None if attributes is None else as_attributes(attributes, len(wanted), make.attributes)
    return Batch(wanted, vectors, table)


def checked_ids(ids: Iterable[Id], kind: pa.DataType) -> pa.Array:
    """Different ids of a store's type.

    Raises:
        InputError: none, one that the store cannot have, or one that comes twice.
    """
    given = as_id_array(ids)
    if not len(given):
        raise InputError("the batch is empty, expected at least one item")
    wanted = cast_exact(given, kind)
    if (wanted.null_count - given.null_count) > 0:
        odd = given.filter(wanted.is_null())[0].as_py()
        raise InputError(f"the ids of this index are {kind}, got {odd!r}")
    return IdList(wanted).array


def refuse_present(ids: pa.Array, there: np.ndarray) -> None:
    """Refuse to add what is there already (bool ``(n,)``)."""
    if there.any():
        raise InputError(f"{_some(ids, there)} in the index already: upsert replaces them, add takes new ones only")


def refuse_absent(ids: pa.Array, there: np.ndarray) -> None:
    """Refuse to remove what is not there."""
    if not there.all():
        raise InputError(f"{_some(ids, ~there)} not in the index, so nothing was removed")


def _some(ids: pa.Array, which: np.ndarray) -> str:
    """``2 of 5 items, 'i1', 'i2', are``."""
    found = ids.filter(pa.array(which)).to_pylist()
    named = ", ".join(map(repr, found[:NAMED])) + (", …" if len(found) > NAMED else "")
    return f"{len(found)} of {len(ids)} items ({named}) {'is' if len(found) == 1 else 'are'}"
