"""docs/media.md: its recipes are recipes, its sources exist, commands and questions have the options it names."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

pytest.importorskip("open_clip", reason="needs the extra media")

import open_clip
import soundfile

from serving.retriever import Retriever
from towers.encoders.contract import REGISTRY, encoder_class
from towers.errors import MediaError
from towers.pictures import FORMATS
from towers.sounds import read_sound
from training.config import Recipe
from twotower.cli import app

TEXT = (Path(__file__).parents[2] / "docs" / "media.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_its_recipes_are_recipes() -> None:
    recipes = [Recipe.read(tomllib.loads(block)) for block in blocks("toml")]
    first, vectors, named, tuned = recipes
    assert first.image is not None
    assert tuned.image is not None
    assert vectors.audio is not None
    assert named.image is not None
    assert named.image.names
    assert first.image.source == tuned.image.source
    assert open_clip.get_pretrained_cfg(*first.image.source.split("/"))
    assert (vectors.audio.length, vectors.audio.normalise, tuned.image.tune) == (100, "whiten", 2)


def test_every_encoder_of_sounds_is_named() -> None:
    named = set(re.findall(r"^\| `(\w+)[:`]", TEXT, re.MULTILINE))
    assert {name for kind, name, _ in REGISTRY if kind == "audio"} <= named
    assert encoder_class("image", "efficientnet-lite0").__name__ == "OpenClip"


def test_its_questions_can_be_asked() -> None:
    (block,) = blocks("python")
    for call in (node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)):
        assert isinstance(call.func, ast.Attribute)
        known = inspect.signature(getattr(Retriever, call.func.attr)).parameters
        assert {keyword.arg for keyword in call.keywords} <= set(known)
    (commands,) = blocks("sh")
    for command in ("recommend", "similar"):
        options = {name for option in get_command(app).commands[command].params for name in option.opts}  # type: ignore[attr-defined]
        for line in (line for line in commands.splitlines() if f"twotower {command} " in line):
            assert set(re.findall(r"--[a-z-]+", line)) <= options


def test_every_format_of_pictures_is_named() -> None:
    told = {name.replace(" ", "").upper() for name in re.findall(r"[A-Z][A-Za-z]+(?: 2000)?", TEXT)}
    assert set(FORMATS) <= told


def test_every_format_of_sounds_is_named_of_which_half_is_read_as_a_whole() -> None:
    found = re.search(r"sounds in the formats (.*?) say nothing", TEXT, re.DOTALL)
    assert found is not None
    told = set(re.findall(r"\w+", found[1])) - {"and"}
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000)
    hidden = set()
    for name in soundfile.available_formats().keys() - {"RAW", "SD2"}:  # without a header; of two files
        file = io.BytesIO()
        with contextlib.suppress(MediaError, soundfile.LibsndfileError, ValueError):  # not written, or found to be cut
            soundfile.write(file, samples, 16_000, format=name)
            read_sound(file.getvalue()[: len(file.getvalue()) // 2], 16_000)
            hidden.add(name)
    assert hidden == told
