"""Options and data shared by all rooms."""

from __future__ import annotations

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

from towers.weights import fetch

ROOT = Path(__file__).resolve().parents[1]

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
