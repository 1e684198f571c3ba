"""The rules of the house, read off the source: who may import whom, and what is never used."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

BELOW = {
    "towers": set(),
    "indexing": {"towers"},
    "training": {"indexing", "towers"},
    "serving": {"indexing", "towers"},
    "twotower": {"training", "serving", "indexing", "towers"},
    "benchmarks": {"twotower", "training", "serving", "indexing", "towers"},
}
PLAIN = {"towers.errors", "towers.artefact", "towers.ids"}  # all that an index needs to know of the towers
READING = {"towers.catalog", "towers.interactions", "towers.history", "towers.history_text", "towers.weights"}
ASKING = {"serving.query"}  # what answers where there is no torch
TORCH = {"torch", "transformers", "accelerate", "safetensors.torch"}
PICKLES = {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
LIGHT = set(sys.stdlib_module_names) | {"twotower"}


def is_in(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module imported anywhere in `tree`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module)


def imports_at_once(tree: ast.Module) -> Iterator[str]:
    """What importing the module imports: all but functions and `if TYPE_CHECKING`."""
    for node in tree.body:
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not typing_only:
            yield from imports(node)


def wrong_imports(module: str, tree: ast.Module) -> Iterator[str]:
    room = module.split(".")[0]
    searching = room == "indexing" and module != "indexing.build"
    for name in imports(tree):
        other = name.split(".")[0]
        if other in BELOW and other != room and other not in BELOW[room]:
            yield f"{name} is not below {room}"
        if searching and other == "towers" and not is_in(name, PLAIN):
            yield f"only indexing.build may import {name}"
        if (searching or module in PLAIN | READING | ASKING) and is_in(name, TORCH):
            yield f"{module} must work without {name}"
        if is_in(name, PICKLES):
            yield f"{name} can run foreign code"
    for name in imports_at_once(tree):
        if name == "faiss" or name.startswith("faiss."):
            yield "faiss must be imported inside a function"
        if module.endswith(".__init__") and not is_in(name, LIGHT):
            yield f"{module} imports {name} at once"


def wrong_code(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield "relative import"
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path":
            yield "sys.path is left alone"
        elif isinstance(node, ast.Call):
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if ast.unparse(node.func) == "torch.load" and given.get("weights_only") != "True":
                yield "torch.load without weights_only=True"
            if given.get("allow_pickle", "False") != "False":
                yield "allow_pickle can run foreign code"


def faults(module: str, source: str) -> list[str]:
    """Every rule that a module breaks, in words."""
    tree = ast.parse(source)
    return [*wrong_imports(module, tree), *wrong_code(tree)]


def house() -> dict[str, str]:
    """Dotted name and source of every module."""
    paths = [path for room in BELOW for path in sorted((ROOT / room).rglob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text("utf-8") for path in paths}


def test_every_module_keeps_the_rules() -> None:
    assert {module: found for module, source in house().items() if (found := faults(module, source))} == {}


def test_faiss_has_one_home() -> None:
    homes = [module for module, source in house().items() if is_in("faiss", set(imports(ast.parse(source))))]
    assert [home.split(".")[0] for home in homes] == ["indexing"]


def test_no_module_is_named_after_a_dependency_or_the_standard_library() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    taken = set(sys.stdlib_module_names) | {re.split(r"[^a-z0-9_-]", one)[0].replace("-", "_") for one in wanted}
    assert {"torch", "numpy", "faiss_gpu", "json"} <= taken
    names = {module.removesuffix(".__init__").split(".")[-1] for module in house()}
    assert names & (taken | {"faiss"}) == set()


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("towers.item", "import training.losses", "not below towers"),
        ("training.trainer", "from serving.rerank import x", "not below training"),
        ("serving.retriever", "def f():\n    import training", "not below serving"),
        ("indexing.index", "from towers.catalog import Catalog", "only indexing.build"),
        ("indexing.index", "import torch.nn", "without torch.nn"),
        ("towers.catalog", "from torch import Tensor", "without torch"),
        ("towers.catalog", "import pickle", "foreign code"),
        ("indexing.index", "import faiss", "inside a function"),
        ("indexing.__init__", "import numpy", "at once"),
        ("towers.model", "from . import item", "relative import"),
        ("towers.model", "import sys\nsys.path.insert(0, '.')", "sys.path"),
        ("towers.model", "torch.load(path)", "weights_only"),
        ("towers.model", "torch.load(path, weights_only=False)", "weights_only"),
        ("indexing.index", "np.load(path, allow_pickle=True)", "allow_pickle"),
    ],
)
def test_each_rule_sees_its_fault(module: str, source: str, fault: str) -> None:
    found = faults(module, source)
    assert len(found) == 1
    assert fault in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("training.trainer", "import torch\nfrom indexing.hits import Hits"),
        ("indexing.build", "from towers.catalog import Catalog"),
        ("indexing.index", "from towers.errors import InputError\ndef f():\n    import faiss"),
        ("twotower.__init__", "if TYPE_CHECKING:\n    from towers.model import TwoTower"),
        ("towers.model", "torch.load(path, weights_only=True)"),
    ],
)
def test_what_is_allowed_stays_allowed(module: str, source: str) -> None:
    assert faults(module, source) == []


def test_reading_data_and_searching_load_no_torch() -> None:
    searching = {m for m in house() if m.startswith("indexing.") and m not in ("indexing.build", "indexing.__init__")}
    names = ", ".join(sorted(PLAIN | READING | ASKING | searching))
    code = f"import sys, {names}; print(sorted({{'torch', 'transformers', 'faiss'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
