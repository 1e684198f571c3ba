"""Options and data shared by all rooms."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jaxtyping import install_import_hook

from towers.weights import fetch

ROOT = Path(__file__).resolve().parents[1]
WORDS = [
    "piano",
    "violin",
    "quiet",
    "evening",
    "rain",
    "engine",
    "motor",
    "race",
    "fast",
    "night",
    "music",
    "motors",
    "loved",
    "liked",
    "fair",
    "before",
]
TINY_RECIPE = """
text.source = "{source}"
item.dimension = 16
item.hidden = 32
user.sequence.blocks = 1
user.text = {{tune = 1, history = {{budget = 48}}}}
train = {{epochs = 2, text_epochs = 1, evaluate_every = 1, batch_people = 16, sentences = 8}}
"""

# An embedded Milvus of one test would speak into what another captures, such as of a process that was forked since.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# Shapes are checked under pytest only, in the modules that state any. An int may stand for a float (PEP 484).
install_import_hook(
    [
        f"{path.parent.name}.{path.stem}"
        for room in ("towers", "training")
        for path in (ROOT / room).glob("*.py")
        if "from jaxtyping import" in path.read_text("utf-8")
    ],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--data-dir", type=Path, help="folder with data sets that are not downloaded")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def data_dir(request: pytest.FixtureRequest) -> Path:
    """The folder given by --data-dir."""
    folder = request.config.getoption("--data-dir")
    if folder is None:
        pytest.skip("needs --data-dir FOLDER")
    if not folder.is_dir():
        pytest.fail(f"--data-dir {folder} is not a folder")
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Folder of the small pretrained text encoder."""
    return fetch("minilm")


@pytest.fixture(scope="session")
def movielens_100k() -> Path:
    """Folder with ml-100k.inter, ml-100k.item and ml-100k.user."""
    return fetch("movielens-100k")


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random BERT, 2 layers of width 32, that knows every ASCII letter and a few words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-bert")
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), *WORDS]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", "utf-8")
    shape = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(shape).eval().save_pretrained(folder)
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class TinyRun:
    """A small world with a model that was trained on it, in memory and on disk.

    40 items ``m00`` to ``m39``, even ones about music, odd ones about motors; 30 people, numbered from 1, each fond of
    one of the two; ratings from 1 to 5.
    """

    items: Path
    events: Path
    recipe: Path
    model_folder: Path
    index_folder: Path
    catalog: Any
    log: Any
    model: Any
    index: Any


@pytest.fixture(scope="session")
def tiny_run(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyRun]:
    """Train and index the small world, once; the cache of text vectors is put into a folder of its own."""
    import numpy as np
    import polars as pl

    from indexing.build import build_index
    from towers.catalog import Catalog
    from towers.interactions import Interactions
    from training.trainer import train

    folder = tmp_path_factory.mktemp("tiny-run")
    rng = np.random.default_rng(0)
    topics = ("music", "motors")
    words = (("piano", "violin", "quiet", "evening", "rain"), ("engine", "motor", "race", "fast", "night"))
    titles = [" ".join([*rng.permutation(words[n % 2])[:3], str(n)]) for n in range(40)]
    pl.DataFrame(
        {"item_id": [f"m{n:02}" for n in range(40)], "title": titles, "topic": [topics[n % 2] for n in range(40)]}
    ).write_csv(folder / "items.csv")
    rows = []
    for person in range(1, 31):
        own = rng.permutation(np.arange(person % 2, 40, 2))[:8]
        other = rng.permutation(np.arange(1 - person % 2, 40, 2))[:2]
        for hour, item in enumerate(rng.permutation([*own, *other])):
            rating = rng.integers(4, 6) if item in own else rng.integers(1, 3)
            rows.append((person, f"m{item:02}", int(rating), 3600 * hour + person))
    schema = ["user_id", "item_id", "rating", "timestamp"]
    pl.DataFrame(rows, schema=schema, orient="row").write_csv(folder / "events.csv")
    (folder / "recipe.toml").write_text(TINY_RECIPE.format(source=tiny_bert), "utf-8")

    paths = [folder / name for name in ("items.csv", "events.csv", "recipe.toml", "runs/model", "runs/index")]
    catalog, log = Catalog.read(paths[0]), Interactions.read(paths[1], rating_range=(1, 5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWOTOWER_CACHE", str(folder / "cache"))
        model = train(catalog, log, recipe=paths[2], out=paths[3], progress=False)
        index = build_index(model, catalog, out=paths[4], progress=False)
        yield TinyRun(*paths, catalog, log, model, index)
