"""Files of a data set, plain or gzipped."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from towers.errors import InputError


def refuse_no_folder(folder: Path) -> None:
    """Raise `InputError` where there is no folder."""
    if not folder.is_dir():
        raise InputError(f"expected the folder of a data set at {folder}, but there is none")


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file; those of a file that ends in ``.gz`` unpacked.

    Raises:
        InputError: it cannot be read, or its packed bytes end too early.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield cast(BinaryIO, file)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read to its end: {error}") from error


def first_line(path: Path) -> str:
    """The first line of a file of text, without its end.

    Raises:
        InputError: the file cannot be read.
    """
    with opened(path) as file:
        return file.readline().decode("utf-8-sig", "replace").rstrip("\r\n")
