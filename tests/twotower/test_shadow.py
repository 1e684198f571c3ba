"""`import twotower` where something else has the name of one of its packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, *options: str, script: str = "import twotower", path: Path | None = ROOT) -> str:
    """Run a script that lies in `folder`; the last line of standard error, empty where all went well."""
    (folder / "script.py").write_text(script)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    command = [sys.executable, *options, "script.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == bool(done.stderr)
    return done.stderr.strip().split("\n")[-1]


def test_a_clean_folder_is_fine(tmp_path: Path) -> None:
    assert run(tmp_path) == ""


@pytest.mark.parametrize("name", ["towers", "indexing", "training", "serving"])
def test_a_file_beside_the_script_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("")
    error = run(tmp_path)
    assert error.startswith(f"ImportError: twotower needs its package {name!r} at {ROOT / name}")
    assert f"the file {tmp_path / name}.py is found first" in error
    assert "rename that file" in error


def test_a_package_beside_the_script_is_named(tmp_path: Path) -> None:
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "__init__.py").write_text("")
    assert f"the folder {tmp_path / 'serving'} is found first" in run(tmp_path)


def test_a_module_imported_before_is_named(tmp_path: Path) -> None:
    (tmp_path / "training.py").write_text("")
    assert f"{tmp_path / 'training.py'} is found first" in run(tmp_path, script="import training, twotower")


def test_the_script_itself_may_be_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "training.py").write_text("import twotower")
    assert f"{tmp_path / 'training.py'} is found first" in run(tmp_path, script="import training")


def test_python_p_is_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "training.py").write_text("")
    assert run(tmp_path, "-P") == ""


def test_a_folder_without_init_does_no_harm_on_an_ordinary_path(tmp_path: Path) -> None:
    (tmp_path / "serving").mkdir()
    assert run(tmp_path) == ""


LATE_FINDER = """
import importlib.machinery, sys

class Late:
    def find_spec(self, name, path=None, target=None):
        if path is None:
            return importlib.machinery.PathFinder.find_spec(name, [{root!r}])

sys.meta_path.append(Late())
import twotower
"""


def test_an_editable_install_by_a_late_finder(tmp_path: Path) -> None:
    script = LATE_FINDER.format(root=str(ROOT))
    assert run(tmp_path, "-S", script=script, path=None) == ""
    (tmp_path / "serving").mkdir()  # found before the finder is asked
    assert f"the folder {tmp_path / 'serving'} is found first" in run(tmp_path, "-S", script=script, path=None)


def test_a_linked_checkout_is_fine(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(ROOT)
    assert run(tmp_path, path=tmp_path / "link") == ""


def test_a_missing_package_is_said(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "twotower", tmp_path / "half" / "twotower")
    assert "Python finds none: install twotower anew" in run(tmp_path, "-S", path=tmp_path / "half")
