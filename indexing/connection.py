"""Connections to a Milvus, embedded or served, and what it objects to as one sentence."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from indexing.address import Address
from towers.errors import ArtefactError, InputError, MissingExtraError

CONNECTING = 10.0  # seconds


@contextmanager
def told(address: Address) -> Iterator[None]:
    """What Milvus objects to, as one sentence.

    Raises:
        ArtefactError: that.
    """
    import grpc
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except (MilvusException, grpc.RpcError) as error:
        message = " ".join(str(getattr(error, "message", error)).split())
        raise ArtefactError(f"Milvus at {address} does not do as it was asked: {message}") from error


_users: Counter[str] = Counter()
_using = threading.Lock()


def connected(address: Address) -> Any:
    """A client of pymilvus; an embedded Milvus begins with its first one, and ends with its last.

    Raises:
        MissingExtraError: a package is not installed.
        InputError, ArtefactError: it cannot be opened, or does not answer.
    """
    try:
        import grpc
        import pymilvus
    except ImportError as error:
        raise MissingExtraError("Milvus needs pymilvus: pip install 'twotower[milvus]'") from error
    if address.embedded and find_spec("milvus_lite") is None:
        raise MissingExtraError(
            "the embedded Milvus needs milvus-lite, without the faiss-cpu that it would bring: "
            "pip install 'twotower[milvus]', then pip install --no-deps milvus-lite"
        )
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # they log what they raise, with its trace
    if address.embedded:
        for name in ("milvus_lite", "grpc._server"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        _refuse_other(Path(address.uri))
    with _using:
        _users[os.path.abspath(address.uri)] += 1
    try:
        return pymilvus.MilvusClient(uri=address.uri, token=address.token, timeout=CONNECTING)
    except (pymilvus.MilvusException, grpc.RpcError) as error:
        _release(address)
        raise ArtefactError(_unreachable(address)) from error


def leave(client: Any, address: Address) -> None:
    """End what `connected` began."""
    client.close()
    _release(address)


def _release(address: Address) -> None:
    with _using:
        _users[os.path.abspath(address.uri)] -= 1
        if address.embedded and not _users[os.path.abspath(address.uri)]:
            from milvus_lite.server_manager import server_manager_instance

            server_manager_instance.release_server(address.uri)


def _unreachable(address: Address) -> str:
    if address.embedded:
        return (
            f"{address.uri} cannot be opened: another process has it open, it is damaged, it is no database of "
            "milvus-lite 3 or later, or its folder cannot be written"
        )
    return f"no Milvus answers at {address.uri}: is it running there, and is the token right?"


def _refuse_other(path: Path) -> None:
    """The embedded Milvus would put its files into any folder."""
    if path.exists() and not (path / "collections").is_dir() and not (path.is_dir() and not any(path.iterdir())):
        raise ArtefactError(f"{path} is something else than a database of milvus-lite; give another name")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path.absolute().parent} is not a folder, so {path.name} cannot be put there")
