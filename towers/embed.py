"""Bulk embedding of text with a cache on disk, keyed by content and encoder."""

from __future__ import annotations

import hashlib
import os
import uuid
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from towers.artefact import atomic_file
from towers.text import TextEncoder, embed_texts
from towers.weights import cache_folder

CHUNK = 512  # texts embedded between two writes, so that a kill loses little


class TextCache:
    """Text vectors kept on disk: one folder for an encoder's fingerprint, one file for each write.

    Several processes may share it: a file appears whole under a name of its own and is never changed.

    Args:
        folder: where to keep them; default: the cache folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder if folder is not None else cache_folder() / "vectors"

    def embed(self, encoder: TextEncoder, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        """Vectors float32 ``(N, C)`` of `texts`, computed only where they are not in the cache.

        Args:
            encoder: frozen text encoder.
            texts: N texts; equal ones are embedded once.
            progress: show a bar on standard error.
        """
        folder = self.folder / encoder.fingerprint[:32]
        keys = [hashlib.sha256(text.encode()).digest() for text in texts]
        known = _read_parts(folder)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        for chunk in _chunks(list(missing.items()), progress):
            vectors = embed_texts(encoder, [text for _, text in chunk])
            _write_part(folder, [key for key, _ in chunk], vectors)
            known.update(zip([key for key, _ in chunk], vectors, strict=True))
        return np.stack([known[key] for key in keys]) if keys else np.empty((0, encoder.dimension), np.float32)


def _chunks(pairs: list, progress: bool):  # type: ignore[no-untyped-def]
    from rich.console import Console
    from rich.progress import track

    starts = range(0, len(pairs), CHUNK)
    if not progress or not starts:
        return (pairs[start : start + CHUNK] for start in starts)
    bar = track(starts, "embedding texts", console=Console(stderr=True))
    return (pairs[start : start + CHUNK] for start in bar)


def _read_parts(folder: Path) -> dict[bytes, np.ndarray]:
    known: dict[bytes, np.ndarray] = {}
    for part in sorted(folder.glob("*.npz")):
        try:
            with part.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                keys, vectors = stored["keys"], stored["vectors"]
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            continue  # a damaged part is embedded again
        known.update(zip((key.tobytes() for key in keys), vectors, strict=True))
    return known


def _write_part(folder: Path, keys: list[bytes], vectors: np.ndarray) -> None:
    stored = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32)
    with atomic_file(folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, keys=stored, vectors=vectors)
