"""Checkpoints: a folder beside the model to come, from which the same training goes on after a kill."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from towers.artefact import artefact_writer, fsync, read_json, read_manifest, write_json
from towers.catalog import Catalog
from towers.encoders.contract import Encoder
from towers.errors import ArtefactError, InputError
from towers.history import Histories
from training.config import Recipe
from training.measuring.splits import Questions

KIND = "twotower/checkpoint"
FORMAT = 7  # of what a checkpoint holds; raise it with every change to the loop after which an old one misleads
KEPT = 2  # the newest, and the one before it in case the newest is damaged
SHARE = 0.02  # of the time, at most, goes into writing
TENSORS, STATE, IDENTITY = "tensors.safetensors", "state.json", "identity.json"


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment.

    Args:
        values: JSON values.
        tensors: weights, optimizer moments, random states and the order of people, by name.
    """

    values: dict[str, Any]
    tensors: dict[str, Tensor]


class Checkpoints:
    """The checkpoints of one training, numbered folders of which the last two stay.

    Args:
        folder: where they are; see `checkpoint_folder`.
        identity: what a training must share with a checkpoint to go on from it; see `identity`.
        seconds: least time between two; 0: whenever asked.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], seconds: float) -> None:
        self.folder = folder
        self._identity = identity
        self._seconds = seconds
        self._due = time.perf_counter() + seconds
        self._whole: list[Path] = []  # the newest ones, known to be whole
        self._warned = False

    @property
    def due(self) -> bool:
        """Whether it is time for the next one."""
        return time.perf_counter() >= self._due

    def write(self, snapshot: Snapshot) -> None:
        """Write one, then remove those that it makes needless.

        Where that fails, as on a full disk, training goes on: it needs no disk before its end, and there may be room
        again by then. The last checkpoint is not touched.

        Warns:
            UserWarning: it could not be written; said once.
        """
        started = time.perf_counter()
        path = self.folder / f"{max([0, *map(_number, _all(self.folder))]) + 1:06}"
        try:
            if not self.folder.exists():
                self.folder.mkdir(parents=True)
                fsync(self.folder.parent)
            with artefact_writer(path, KIND, {}) as temporary:
                write_json(temporary / IDENTITY, self._identity)
                write_json(temporary / STATE, snapshot.values)
                save_file(snapshot.tensors, temporary / TENSORS)
        except (OSError, ArtefactError, SafetensorError) as error:
            self._warn(error)
        else:
            self._whole = [*self._whole, path][-KEPT:]
            _sweep(self.folder, self._whole)
        now = time.perf_counter()
        self._due = now + (max(self._seconds, (now - started) / SHARE) if self._seconds else 0)

    def newest(self) -> Snapshot | None:
        """The newest one that is whole, None where there is none at all.

        Warns:
            UserWarning: newer ones are damaged and were passed over.

        Raises:
            InputError: it belongs to another training; the first difference is named.
            ArtefactError: there are some, and none is whole.
        """
        damage = []
        for path in sorted(_all(self.folder), key=_number, reverse=True):
            try:
                read_manifest(path, KIND)
                identity = read_json(path / IDENTITY)
                snapshot = Snapshot(read_json(path / STATE), load_file(path / TENSORS))
            except (OSError, ArtefactError, SafetensorError) as error:
                damage.append(str(error))
                continue
            if differs := _difference(identity, self._identity):
                raise InputError(
                    f"{self.folder} holds checkpoints of another training: {differs}; "
                    f"go on with what that one had, name another out, or delete {self.folder}"
                )
            if damage:
                warnings.warn(f"{damage[0]}: going on from the checkpoint before it", UserWarning, stacklevel=2)
            self._whole = [path]
            return snapshot
        if damage:
            raise ArtefactError(
                f"no checkpoint in {self.folder} can be read ({damage[0]}): "
                "delete that folder to train from the beginning, or name another out"
            )
        return None

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            left = f"the last one, {self._whole[-1]}, is whole" if self._whole else "there is none yet"
            warnings.warn(
                f"no checkpoint could be written ({error}); training goes on, and {left}", UserWarning, stacklevel=3
            )
        self._warned = True


def checkpoint_folder(out: Path) -> Path:
    """Where a training with this `out` keeps its checkpoints."""
    return out.with_name(f"{out.name}.checkpoint")


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints in `folder`, and it if nothing else is there; the training is done."""
    _sweep(folder, [])
    with suppress(OSError):  # not there, or somebody keeps something else in it
        folder.rmdir()


def identity(
    recipe: Recipe,
    catalog: Catalog,
    past: Histories,
    chosen: Questions | Sequence[int],
    rated: Histories,
    encoder: Encoder,
) -> dict[str, Any]:
    """All that decides how a training ends, for comparison: JSON values.

    Args:
        recipe: settings; how often checkpoints are written and where curves go decide nothing and are left out.
        catalog, past, rated: data as in `training.trainer.fit`.
        chosen: questions to choose epochs by, or the epochs.
        encoder: the text encoder that training begins with.
    """
    asked = digest(chosen.people, chosen.histories, chosen.targets) if isinstance(chosen, Questions) else None
    return {
        "checkpoint": FORMAT,
        "recipe": recipe.model_dump(mode="json", exclude={"train": {"checkpoint_seconds", "trackers"}}),
        "the catalog": catalog.fingerprint,
        "the training events": digest(past),
        "the validation questions": asked,
        "the epochs chosen before": None if isinstance(chosen, Questions) else list(chosen),
        "the rated events": digest(rated),
        "the text encoder": encoder.fingerprint,
    }


def _all(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if re.fullmatch(r"\d{6,}", path.name)]


def _sweep(folder: Path, keep: list[Path]) -> None:
    """Remove other checkpoints than these, and what a kill left half-written."""
    half_written = [path for path in folder.glob(".*") if re.match(r"\.\d{6,}\.", path.name)]
    for path in (*_all(folder), *half_written):
        if path not in keep:
            shutil.rmtree(path, ignore_errors=True)


def digest(*parts: np.ndarray | Histories) -> str:
    """SHA-256 of arrays and histories, every column of them."""
    sha = hashlib.sha256()
    for part in parts:
        columns = vars(part).items() if isinstance(part, Histories) else [("", part)]
        for name, column in columns:
            sha.update(name.encode())
            if isinstance(column, np.ndarray):
                sha.update(column.tobytes())
            elif column is not None:  # Arrow strings
                sha.update(json.dumps(column.to_pylist()).encode())
    return sha.hexdigest()


def _difference(there: dict[str, Any], here: dict[str, Any], before: str = "") -> str | None:
    """In words, the first thing in which a checkpoint differs from a training."""
    for name in (*here, *(name for name in there if name not in here)):
        old, new = there.get(name), here.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            if differs := _difference(old, new, f"{before}{name}."):
                return differs
        elif old != new:
            if name == "checkpoint":
                return f"their format is {old}, this version writes {new}"
            name = (before + name).removeprefix("recipe.")
            return f"{name} is {_word(old)} there and {_word(new)} here" if before else f"{name} changed"
    return None


def _word(value: Any) -> str:
    return "not set" if value is None else "set" if isinstance(value, dict) else json.dumps(value)


def _number(path: Path) -> int:
    return int(path.name)
