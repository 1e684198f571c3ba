"""`Address`: whether the place of an index is a folder or a Milvus, decided here and nowhere else."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from indexing.versions import CURRENT
from towers.errors import InputError

COLLECTION = "items"
TOKEN = "MILVUS_TOKEN"
EMBEDDED = ".db"


@dataclass(frozen=True)
class Address:
    """A collection in a Milvus.

    Args:
        uri: of a server, or the path of an embedded Milvus, which ends in ``.db``.
        collection: its name there.
        token: what a server asks for, ``user:password`` or a key; never shown.
    """

    uri: str
    collection: str = COLLECTION
    token: str = field(default="", repr=False)

    @classmethod
    def read(cls, place: str | Path) -> Address | None:
        """The address that a place is; None where it is a folder.

        ``milvus.db`` is embedded, ``http://host:19530`` a server, ``https://user:password@host`` one that asks who it
        is; ``#songs`` behind either names a collection other than ``items``. Without a token in it, the environment's
        ``MILVUS_TOKEN`` is used.

        Raises:
            InputError: a collection's name that Milvus cannot have.
        """
        uri, _, collection = re.sub(r"^(https?|tcp):/+", r"\1://", str(place)).partition("#")  # a Path drops a slash
        collection = collection or COLLECTION
        served = uri.startswith(("http://", "https://", "tcp://"))
        if not served and (not uri.endswith(EMBEDDED) or (Path(uri) / CURRENT).exists()):
            return None
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,200}", collection):
            raise InputError(
                f"a collection is named by letters, digits and underscores, not a digit first, got {collection!r}"
            )
        if not served:
            return cls(uri, collection)
        parts = urlsplit(uri)
        token, _, host = parts.netloc.rpartition("@")
        return cls(urlunsplit(parts._replace(netloc=host)), collection, token or os.environ.get(TOKEN, ""))

    @property
    def embedded(self) -> bool:
        """Whether it is in this process and on this disk."""
        return "://" not in self.uri

    def __str__(self) -> str:
        return self.uri if self.collection == COLLECTION else f"{self.uri}#{self.collection}"
