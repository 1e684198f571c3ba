"""Everything this project raises on purpose.

TwoTowerError            exit code 1: something failed
├── InputError           exit code 2: the caller gave something that cannot be used
├── ArtefactError        a folder that is not, or no longer, what it should be
├── WeightsError         pretrained weights or sample data could not be had
├── MediaError           a picture or sound that cannot be read; the item keeps what else it has
├── StoreError           the store of feedback cannot be opened, read or written now
└── MissingExtraError    an optional package is not installed

A message is one sentence that says what was got, what was expected and what to do.
"""

from __future__ import annotations


class TwoTowerError(Exception):
    """Base of every error raised on purpose; its text is meant for a person."""

    exit_code = 1


class InputError(TwoTowerError, ValueError):
    """An argument, a file or a column that cannot be used."""

    exit_code = 2


class ArtefactError(TwoTowerError):
    """A folder that is not an artefact, is damaged, too new, or belongs to another model."""


class WeightsError(TwoTowerError):
    """Pretrained weights or sample data that could not be fetched or verified."""


class MediaError(TwoTowerError):
    """A picture or sound that is no such thing, damaged, too large or missing; the text is the reason, a few words."""


class StoreError(TwoTowerError):
    """The store of feedback cannot be opened, read or written now, or its audit log is not what was written."""


class MissingExtraError(TwoTowerError, ImportError):
    """An optional dependency is absent; the message names the extra that brings it."""
