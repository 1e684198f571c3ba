"""A tiny text encoder for towers whose weights do not matter."""

from __future__ import annotations

from pathlib import Path

import pytest

from towers.text import TextConfig, TextEncoder


@pytest.fixture
def tiny_encoder(tiny_bert: Path) -> TextEncoder:
    """A fresh one for each test, as towers share and freeze its weights."""
    return TextEncoder.load(TextConfig(source=str(tiny_bert)))
