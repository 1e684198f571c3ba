"""Bulk embedding with a cache on disk: each content is decoded and encoded once, keyed by itself and its encoder."""

from __future__ import annotations

import hashlib
import os
import uuid
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from towers.artefact import atomic_file
from towers.bar import bar
from towers.encoders.contract import Encoder
from towers.errors import MediaError
from towers.precision import bf16_is_fast, bf16_is_near, fast_copy
from towers.weights import cache_folder

CHUNK = 512  # contents embedded between two writes, so that a kill loses little
BATCH = {"text": 64, "image": 32, "audio": 32}  # contents encoded together
WORDS = {"text": "texts", "image": "pictures", "audio": "sounds"}
MOST_BYTES = 16_000_000  # of sounds as they lie on disk in a batch, or one longer sound: features of hours are large
AHEAD = 2  # batches decoded while one is encoded
UNREADABLE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile)

Content = str | bytes | Path  # a text, or a picture or sound: the file itself, or where it is


@dataclass(frozen=True)
class Embedded:
    """Vectors of N contents.

    Args:
        vectors: float32 ``(N, C)``, zero where there is none.
        present: ``(N,)`` where there is one.
        faults: what is wrong with a content that is there and cannot be read, by its place.
    """

    vectors: Float[Tensor, "n c"]
    present: Bool[Tensor, " n"]
    faults: dict[int, str] = field(default_factory=dict)


class VectorCache:
    """Vectors kept on disk: one folder for an encoder's fingerprint and precision, one file for each write.

    Several processes may share it: a file appears whole under a name of its own and is never changed.

    Args:
        folder: where to keep them; default: the cache folder.
        only: the files to read, as `files` names them, so that what is written meanwhile changes no vector; default:
            all that are there.
    """

    def __init__(self, folder: Path | None = None, *, only: Sequence[str] | None = None) -> None:
        self.folder = folder if folder is not None else cache_folder() / "vectors"
        self._only = None if only is None else frozenset(only)
        self._directories: dict[Path, _Directory] = {}

    def files(self) -> list[str]:
        """Names of all files that are there now."""
        return sorted(part.relative_to(self.folder).as_posix() for part in self.folder.glob("*/*.npz"))

    def embed(self, encoder: Encoder, contents: Sequence[Content | None], *, progress: bool = False) -> Embedded:
        """Vectors of `contents`, computed only where they are not in the cache.

        Args:
            encoder: frozen.
            contents: N texts, pictures or sounds, None for none; equal ones are embedded once.
            progress: show a bar on standard error.
        """
        keys, faults = _keys(contents)
        vectors = torch.zeros(len(contents), encoder.dimension)
        if keys:
            bf16 = bf16_is_fast(encoder.device) and bf16_is_near(encoder)
            folder = self.folder / (encoder.fingerprint[:32] + ("-bf16" if bf16 else ""))
            places = _by_key(keys)
            known = _read_parts(self._parts(folder, places), set(places))
            missing = {key: contents[where[0]] for key, where in places.items() if key not in known}
            pairs = _in_order(missing)
            encoder.examine([content for _, content in pairs[:CHUNK]])
            fast = fast_copy(encoder, bf16=bf16) if pairs else encoder
            with bar(f"embedding {WORDS[encoder.modality]}", len(pairs), shown=progress) as advance:
                for start in range(0, len(pairs), CHUNK):
                    found, bad = _encode(fast, pairs[start : start + CHUNK], advance)
                    _write_part(folder, found)
                    known.update(found)
                    faults |= {place: reason for key, reason in bad.items() for place in places[key]}
            for place, key in keys.items():
                if key in known:
                    vectors[place] = torch.from_numpy(known[key])
        present = torch.tensor([n in keys and n not in faults for n in range(len(contents))], dtype=torch.bool)
        return Embedded(vectors, present, dict(sorted(faults.items())))

    def _parts(self, folder: Path, wanted: Iterable[bytes]) -> list[Path]:
        """The files that may hold one of these keys; of those that are not there yet, none."""
        directory = self._directories.setdefault(folder, _Directory())
        there = sorted(folder.glob("*.npz"))
        directory.add([part for part in there if self._only is None or f"{folder.name}/{part.name}" in self._only])
        return directory.holding(wanted)


class _Directory:
    """Which files may hold a key, by its first eight bytes: only the keys of each were read, and once."""

    def __init__(self) -> None:
        self._parts: list[Path] = []
        self._starts, self._owner = np.empty(0, np.uint64), np.empty(0, np.int32)

    def add(self, parts: list[Path]) -> None:
        """Read the keys of those of these files that are new; no file ever changes."""
        known = set(self._parts)
        new = [part for part in parts if part not in known]
        if not new:
            return
        starts = [_starts(_keys_in(part)) for part in new]
        numbers = np.arange(len(self._parts), len(self._parts) + len(new), dtype=np.int32)
        self._parts += new
        self._starts = np.concatenate([self._starts, *starts])
        self._owner = np.concatenate([self._owner, np.repeat(numbers, [len(one) for one in starts])])
        order = np.argsort(self._starts, kind="stable")
        self._starts, self._owner = self._starts[order], self._owner[order]

    def holding(self, wanted: Iterable[bytes]) -> list[Path]:
        """Those that may hold one of these."""
        starts = np.unique(_starts(np.frombuffer(b"".join(wanted), np.uint8).reshape(-1, 32)))
        low, high = (np.searchsorted(self._starts, starts, side=side) for side in ("left", "right"))
        count = high - low  # more than one where files share a key, and then all of them one after another
        places = np.arange(count.sum()) + np.repeat(high - count.cumsum(), count)
        return [self._parts[number] for number in np.unique(self._owner[places])]


def _starts(keys: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(keys[:, :8]).view(np.uint64).ravel()


def _keys_in(part: Path) -> np.ndarray:
    """uint8 ``(n, 32)``; none where the file is damaged."""
    try:
        with part.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return stored["keys"]
    except UNREADABLE:
        return np.empty((0, 32), np.uint8)


class NoCache(VectorCache):
    """Embeds a few contents and keeps nothing: for one item it would take longer to look through what is on disk."""

    def embed(self, encoder: Encoder, contents: Sequence[Content | None], *, progress: bool = False) -> Embedded:
        """Vectors of `contents`, computed now."""
        vectors, present = torch.zeros(len(contents), encoder.dimension), torch.zeros(len(contents), dtype=torch.bool)
        faults = {}
        with torch.inference_mode():
            for place, content in enumerate(contents):
                if content is None:
                    continue
                try:
                    vectors[place] = encoder.encode([encoder.prepare(content)]).float()[0].cpu()
                    present[place] = True
                except MediaError as error:
                    faults[place] = str(error)
        return Embedded(vectors, present, faults)


def _keys(contents: Sequence[Content | None]) -> tuple[dict[int, bytes], dict[int, str]]:
    """SHA-256 of each content that is there, by its place, and what is wrong with files that cannot be opened."""
    keys, faults = {}, {}
    for place, content in enumerate(contents):
        try:
            if content is not None:
                keys[place] = _key(content)
        except OSError as error:
            faults[place] = f"cannot be opened: {error.strerror}"
        except MediaError as error:
            faults[place] = str(error)
    return keys, faults


def _key(content: Content) -> bytes:
    if isinstance(content, Path):
        if content.exists() and not (content.is_file() or content.is_dir()):  # reading a pipe might never end
            raise MediaError("is no file")
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).digest()


def _by_key(keys: dict[int, bytes]) -> dict[bytes, list[int]]:
    places: dict[bytes, list[int]] = {}
    for place, key in keys.items():
        places.setdefault(key, []).append(place)
    return places


def _in_order(missing: dict[bytes, Any]) -> list[tuple[bytes, Any]]:
    """Texts by their length, so that little is padded, and the longest first: what needs most memory fails first."""
    if all(isinstance(content, str) for content in missing.values()):
        return sorted(missing.items(), key=lambda pair: -len(pair[1]))
    return list(missing.items())


def _encode(
    encoder: Encoder, chunk: list[tuple[bytes, Any]], advance: Callable[[int], None]
) -> tuple[dict[bytes, np.ndarray], dict[bytes, str]]:
    """Vectors by key, and what is wrong with the rest; threads decode while the encoder computes."""
    found: dict[bytes, np.ndarray] = {}
    bad: dict[bytes, str] = {}
    for keys, prepared in _prepared(encoder, chunk):
        readable = [n for n, one in enumerate(prepared) if not isinstance(one, MediaError)]
        bad |= {keys[n]: str(one) for n, one in enumerate(prepared) if isinstance(one, MediaError)}
        advance(len(keys))
        if not readable:
            continue
        with torch.inference_mode():
            vectors = encoder.encode([prepared[n] for n in readable]).float().cpu().numpy()
        for n, vector in zip(readable, vectors, strict=True):
            if np.isfinite(vector).all():
                found[keys[n]] = vector
            else:
                bad[keys[n]] = "gives a vector that is not finite"
    return found, bad


def _prepared(encoder: Encoder, chunk: list[tuple[bytes, Any]]) -> Iterator[tuple[list[bytes], list[Any]]]:
    """Batches of prepared contents, or the `MediaError` of each, some batches ahead of whoever takes them."""
    size = BATCH[encoder.modality]
    if encoder.modality == "text":  # quick enough to do at once, and then to put together what is of one length
        tokens = sorted(((key, _prepare(encoder, text)) for key, text in chunk), key=lambda pair: -_length(pair[1]))
        for start in range(0, len(tokens), size):
            one = tokens[start : start + size]
            yield [key for key, _ in one], [ready for _, ready in one]
        return
    with _decoders() as pool:
        ahead: deque[tuple[list[bytes], Iterable[Any]]] = deque()
        for batch in _batches(chunk, size, MOST_BYTES if encoder.modality == "audio" else None):
            ahead.append(([key for key, _ in batch], pool.map(lambda pair: _prepare(encoder, pair[1]), batch)))
            if len(ahead) > AHEAD:
                keys, ready = ahead.popleft()
                yield keys, list(ready)
        for keys, ready in ahead:
            yield keys, list(ready)


def _length(prepared: Any) -> int:
    """How many tokens, where an encoder reads tokens."""
    return len(prepared) if isinstance(prepared, list) else 0


def _batches(chunk: list[tuple[bytes, Any]], size: int, most: int | None) -> Iterator[list[tuple[bytes, Any]]]:
    """Consecutive contents, `size` at most and together no more than `most` bytes, or one alone."""
    batch: list[tuple[bytes, Any]] = []
    total = 0
    for pair in chunk:
        count = 0 if most is None else _bytes_of(pair[1])
        if batch and (len(batch) == size or (most is not None and total + count > most)):
            yield batch
            batch, total = [], 0
        batch.append(pair)
        total += count
    if batch:
        yield batch


def _bytes_of(content: Path | bytes) -> int:
    try:
        return len(content) if isinstance(content, bytes) else content.stat().st_size
    except OSError:  # it has gone since, which decoding will tell of
        return 0


@contextmanager
def _decoders() -> Iterator[ThreadPoolExecutor]:
    """Threads that decode, each alone: more of torch's own beside them would get in the encoder's way."""
    try:
        with ThreadPoolExecutor(max(2, os.cpu_count() or 1), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(torch.get_num_threads())  # what was set last, in any thread, holds for threads to come


def _prepare(encoder: Encoder, content: Content) -> Any:
    """What the encoder reads of a content, in the precision of its weights."""
    try:
        prepared = encoder.prepare(content)
    except MediaError as error:
        return error
    dtype = next(encoder.parameters()).dtype
    return prepared.to(dtype) if isinstance(prepared, Tensor) and prepared.is_floating_point() else prepared


def _read_parts(parts: Iterable[Path], wanted: set[bytes]) -> dict[bytes, np.ndarray]:
    known: dict[bytes, np.ndarray] = {}
    for part in parts:
        try:
            with part.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                keys, vectors = stored["keys"], stored["vectors"]
        except UNREADABLE:
            continue  # a damaged part is embedded again
        known.update((key, vector) for key, vector in zip(map(bytes, keys), vectors, strict=True) if key in wanted)
    return known


def _write_part(folder: Path, found: dict[bytes, np.ndarray]) -> None:
    if not found:
        return
    keys = np.frombuffer(b"".join(found), np.uint8).reshape(-1, 32)
    with atomic_file(folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, keys=keys, vectors=np.stack(list(found.values())))
