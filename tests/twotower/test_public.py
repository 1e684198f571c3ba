"""The front door: its names, and how little it costs to open."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import twotower
from twotower.shadow import PACKAGES

ROOT = Path(__file__).resolve().parents[2]


def test_all_is_what_was_promised() -> None:
    assert twotower.__all__ == [
        "Catalog",
        "IndexWriter",
        "Interactions",
        "ItemIndex",
        "Retriever",
        "TwoTower",
        "__version__",
        "build_index",
        "train",
    ]
    assert set(twotower.__all__) <= set(dir(twotower))


@pytest.mark.parametrize("name", [name for name in twotower.__all__ if name != "__version__"])
def test_a_public_name_is_the_object_of_its_home(name: str) -> None:
    thing = getattr(twotower, name)
    assert thing.__name__ == name
    assert thing.__module__.split(".")[0] in PACKAGES
    assert vars(twotower)[name] is thing


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'twotower' has no attribute 'Catalogue'"):
        _ = twotower.Catalogue


def test_no_module_of_the_front_door_hides_a_public_name() -> None:
    # Importing a submodule binds its name in the package, over the lazy one.
    modules = {path.stem for path in (ROOT / "twotower").glob("*.py")}
    assert modules & set(twotower.__all__) == set()


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys; before = set(sys.modules); import twotower; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded - set(sys.stdlib_module_names) == {"twotower"}


def test_the_wheel_holds_the_five_packages() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert packages == ["twotower", *PACKAGES]
    assert [name for name in packages if not (ROOT / name / "py.typed").is_file()] == []
