"""Options and data shared by all rooms."""

from __future__ import annotations

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

from towers.weights import fetch

ROOT = Path(__file__).resolve().parents[1]
WORDS = ("piano", "violin", "quiet", "evening", "rain", "engine", "motor", "race", "fast", "night", "loved", "liked", "before")

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
