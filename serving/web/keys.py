"""`Keys`: who may ask what. A key is shown once, when it is made; the file holds salted hashes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from indexing.lock import Lock
from towers.artefact import atomic_file, read_json, write_json
from towers.errors import ArtefactError, InputError

PREFIX = "tt"
SECRET = 32  # random bytes of a key: nobody tries so many, so one round of SHA-256 is as good as many
Hex = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2})+$")]


class Role(StrEnum):
    """What a key allows; each role may do what those before it may."""

    reader = "reader"  # recommendations, items, reasons
    writer = "writer"  # feedback, and items that come and go
    admin = "admin"  # people's histories, lists, the audit log, swaps

    def allows(self, needed: Role) -> bool:
        """Whether it may do what `needed` may."""
        roles = list(Role)
        return roles.index(self) >= roles.index(needed)


class Key(BaseModel):
    """One key as the file has it.

    Args:
        id: what logs name it by, and the middle of the key itself.
        name: what it is for, in words.
        role: what it allows.
        salt, hash: hexadecimal; SHA-256 of salt and secret.
        created, revoked: dates in UTC; a revoked key stays in the file, so that the audit log can be read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    name: str
    role: Role
    salt: Hex
    hash: Hex
    created: str
    revoked: str | None = None

    def fits(self, secret: str) -> bool:
        """Whether this is its secret; takes as long either way."""
        return hmac.compare_digest(_hash(self.salt, secret), self.hash)


NOBODY = Key(id="", name="", role=Role.reader, salt="00" * 16, hash="00" * 32, created="")
KEYS: TypeAdapter[list[Key]] = TypeAdapter(list[Key])


class Keys:
    """The keys of a file, read again when it changes, so that a revoked key ends at once.

    Args:
        path: JSON that `add` writes; no file is no keys.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None  # of the file as it was read
        self._keys: dict[str, Key] = {}

    def all(self) -> list[Key]:
        """Every key, the revoked ones included, oldest first.

        Raises:
            ArtefactError: the file is not readable.
        """
        try:
            facts = self._path.stat()
        except FileNotFoundError:
            self._keys, self._stamp = {}, None
            return []
        except OSError as error:
            raise ArtefactError(f"{self._path} cannot be looked at: {error}") from error
        stamp = (facts.st_mtime_ns, facts.st_ino, facts.st_size)
        if stamp != self._stamp:
            try:
                self._keys = {key.id: key for key in KEYS.validate_python(read_json(self._path))}
            except ValidationError as error:
                raise ArtefactError(f"{self._path} holds no keys that can be read: {error}") from error
            self._stamp = stamp
        return list(self._keys.values())

    def find(self, given: str) -> Key | None:
        """The key that this is, unless it is revoked or none.

        Raises:
            ArtefactError: the file is not readable; nobody is let in by what it said before, which may be revoked.
        """
        self.all()
        parts = given.split("_", 2)
        own = self._keys.get(parts[1], NOBODY) if len(parts) == 3 and parts[0] == PREFIX else NOBODY
        fits = own.fits(parts[-1])
        return own if fits and own is not NOBODY and own.revoked is None else None

    def add(self, name: str, role: Role) -> str:
        """Make a key; what is returned is shown nowhere else, ever.

        Raises:
            InputError: a name that is empty or longer than a line.
            ArtefactError: the file cannot be written.
        """
        if not name.strip() or len(name) > 100 or not name.isprintable():
            raise InputError(f"a key needs a name of one to 100 letters that says what it is for, got {name!r}")
        secret, salt = secrets.token_urlsafe(SECRET), secrets.token_hex(16)
        key = Key(id=secrets.token_hex(4), name=name, role=role, salt=salt, hash=_hash(salt, secret), created=_now())
        self._change(lambda keys: [*keys, key])
        return f"{PREFIX}_{key.id}_{secret}"

    def revoke(self, one: str) -> Key:
        """End a key, named by its id.

        Raises:
            InputError: there is no such key, or it is revoked already.
            ArtefactError: the file cannot be written.
        """
        found = next((key for key in self.all() if key.id == one), None)
        if found is None:
            raise InputError(f"there is no key {one!r}: twotower keys list shows the ids")
        if found.revoked is not None:
            raise InputError(f"the key {one!r} was revoked already, on {found.revoked}")
        ended = found.model_copy(update={"revoked": _now()})
        self._change(lambda keys: [ended if key.id == one else key for key in keys])
        return ended

    def _change(self, change: Callable[[list[Key]], list[Key]]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with Lock(self._path.parent):
            keys = change(self.all())
            with atomic_file(self._path) as temporary:
                temporary.touch(0o600)
                write_json(temporary, [key.model_dump(mode="json") for key in keys])
        self._stamp = None


def _hash(salt: str, secret: str) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + secret.encode("utf-8", "replace")).hexdigest()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
