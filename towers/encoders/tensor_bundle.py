"""Reading TensorFlow 1 checkpoints with numpy alone.

A checkpoint is a table of entries (`.index`, in the format of LevelDB's sorted tables) and a file of raw values
(`.data-00000-of-00001`). The formats: `tensorflow/core/protobuf/tensor_bundle.proto`, `leveldb/doc/table_format.md`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from towers.errors import WeightsError

MAGIC = 0xDB4775248B80FB57
FOOTER = 48  # bytes: two block handles, padding, the magic number
FLOAT32 = 1  # as TensorFlow's `DataType` numbers it

Fields = dict[int, list[int | bytes]]  # of a protocol buffer message: number -> values


def read_checkpoint(prefix: str | Path) -> dict[str, np.ndarray]:
    """The float32 variables of a checkpoint in one shard.

    Args:
        prefix: path of its files without `.index`; may end with a slash where the names begin with the dot.

    Raises:
        WeightsError: missing, damaged or compressed.
    """
    try:
        table = Path(f"{prefix}.index").read_bytes()
        data = Path(f"{prefix}.data-00000-of-00001").read_bytes()
        if int.from_bytes(table[-8:], "little") != MAGIC:
            raise ValueError("it does not end as such a table does")
        entries = {key.decode(): _fields(value) for key, value in _entries(table) if key}  # "" holds the header
        return {name: _array(entry, data) for name, entry in entries.items() if _number(entry, 1) == FLOAT32}
    except (OSError, ValueError, IndexError) as error:
        raise WeightsError(f"the checkpoint {prefix} could not be read: {error}") from error


def _entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of all blocks that the index block names."""
    _, place = _handle(table, len(table) - FOOTER)  # of a block of statistics
    index, _ = _handle(table, place)
    for _, value in _block(table, *index):
        handle, _ = _handle(value, 0)
        yield from _block(table, *handle)


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of one block; a key is written as what differs from the one before."""
    if table[offset + size] != 0:
        raise ValueError("it is compressed")
    restarts = int.from_bytes(table[offset + size - 4 : offset + size], "little")
    place, end = offset, offset + size - 4 * (restarts + 1)
    key = b""
    while place < end:
        shared, place = _varint(table, place)
        fresh, place = _varint(table, place)
        length, place = _varint(table, place)
        key = key[:shared] + table[place : place + fresh]
        place += fresh
        yield key, table[place : place + length]
        place += length


def _array(entry: Fields, data: bytes) -> np.ndarray:
    """The values of a `BundleEntryProto`: 2 is the shape, 4 the offset and 5 the size in bytes."""
    shape = [_number(_fields(size), 1) for size in _fields(_message(entry, 2)).get(2, []) if isinstance(size, bytes)]
    start = _number(entry, 4)
    return np.frombuffer(data[start : start + _number(entry, 5)], "<f4").reshape(shape)


def _fields(message: bytes) -> Fields:
    """The fields of a protocol buffer message."""
    fields: Fields = {}
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        value: int | bytes
        match tag & 7:
            case 0:
                value, place = _varint(message, place)
            case 1 | 5 as kind:
                end = place + (8 if kind == 1 else 4)
                value, place = message[place:end], end
            case 2:
                length, place = _varint(message, place)
                value, place = message[place : place + length], place + length
            case kind:
                raise ValueError(f"a field is of the unknown kind {kind}")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _number(fields: Fields, key: int) -> int:
    value = fields.get(key, [0])[0]
    if not isinstance(value, int):
        raise ValueError(f"field {key} is no number")
    return value


def _message(fields: Fields, key: int) -> bytes:
    value = fields.get(key, [b""])[0]
    if not isinstance(value, bytes):
        raise ValueError(f"field {key} is no message")
    return value


def _handle(data: bytes, place: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and where the next thing begins."""
    offset, place = _varint(data, place)
    size, place = _varint(data, place)
    return (offset, size), place


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of variable length, seven bits a byte, and where the next thing begins."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
