"""The shop without the optional libraries that draw, play and probe it: an error that names the extra."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMPORT_ALL = """
import importlib, sys
sys.modules[sys.argv[1]] = None
for name in ("settings", "oracle", "motifs", "cover", "sound", "shop", "ceiling", "probes"):
    try:
        importlib.import_module(f"twotower.studio.{name}")
    except ImportError as error:
        print(name, type(error).__name__, error)
"""
PILLOW = "MissingExtraError drawing covers needs pillow: pip install 'twotower[media]'"
SOUNDFILE = "MissingExtraError writing sounds needs soundfile: pip install 'twotower[media]'"
SKLEARN = "MissingExtraError the probes need scikit-learn: pip install 'twotower[media,report]'"


@pytest.mark.parametrize(
    ("library", "error", "modules"),
    [
        ("PIL", PILLOW, ["motifs", "cover", "shop", "ceiling", "probes"]),
        ("soundfile", SOUNDFILE, ["sound", "shop", "ceiling", "probes"]),
        ("sklearn", SKLEARN, ["probes"]),
    ],
)
def test_without_a_library_the_error_names_the_extra(library: str, error: str, modules: list[str]) -> None:
    command = [sys.executable, "-c", IMPORT_ALL, library]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{module} {error}" for module in modules]
