"""What `twotower doctor` says of the machine: each fault is planted where Python looks, and is named."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import twotower
from towers.weights import REGISTRY
from training.measuring.checkup import Finding
from twotower import environment
from twotower.cli import main

ROOT = Path(__file__).resolve().parents[2]


def named(findings: list[Finding], name: str) -> Finding:
    """The one finding of this name."""
    (one,) = (finding for finding in findings if finding.name == name)
    return one


def install(folder: Path, name: str, version: str, *lines: str) -> None:
    """Put the metadata of a distribution into `folder`."""
    place = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(
        "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines]) + "\n", "utf-8"
    )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that Python looks into before its own."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path / "site"


def test_the_table_of_versions_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    floors = dict(re.findall(r"^([a-z-]+)>=([\d.]+)", "\n".join(project["dependencies"]), re.MULTILINE))
    tried = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE))
    assert {name: (floors[name], tried[name]) for name in environment.VERSIONS} == environment.VERSIONS
    assert (floors["faiss-gpu"], tried["faiss-gpu"]) == environment.FAISS == (floors["faiss-cpu"], tried["faiss-gpu"])
    assert project["requires-python"] == f">={environment.PYTHON[0]}"


def test_an_old_a_new_and_a_missing_version(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "torch", "2.9.1+cpu")
    install(site, "Polars", "99.0")
    install(site, "pyarrow", environment.VERSIONS["pyarrow"][1].rsplit(".", 1)[0] + "+build99")
    monkeypatch.setitem(environment.VERSIONS, "nowhere", ("1.2", "1.3"))
    found = environment.versions(environment.distributions())
    assert {one.name for one in found if not one.ok} == {"torch", "nowhere"}
    torch = named(found, "torch")
    assert (torch.figure, torch.threshold) == ("2.9.1+cpu", f"from 2.11, tried to {environment.VERSIONS['torch'][1]}")
    assert torch.remedy == "pip install 'torch>=2.11'"
    assert (named(found, "nowhere").figure, named(found, "polars").about) == ("missing", "newer than what was tried")
    assert named(found, "pyarrow").about == ""  # what stands behind the + is no version
    assert named(found, "twotower").figure == twotower.__version__
    assert named(found, "python").about == ("newer than what was tried" if sys.version_info[:2] > (3, 11) else "")
    assert named(found, "python").figure == ".".join(map(str, sys.version_info[:3]))


def test_two_wheels_of_faiss_and_who_wants_them(site: Path) -> None:
    for name in ("faiss-cpu", "faiss_gpu"):
        install(site, name, "1.14.0")
    install(site, "milvus-lite", "2.5", "Requires-Dist: faiss_cpu>=1.8")
    install(
        site, "shop", "1.0", 'Requires-Dist: faiss-gpu; extra == "gpu"', 'Requires-Dist: numpy; python_version > "3"'
    )
    install(site, "other", "1.0", 'Requires-Dist: faiss-cpu; sys_platform == "nowhere"')
    one = named(environment.faiss(environment.distributions()), "wheels of faiss")
    assert (one.figure, one.threshold, one.ok) == (2, "at most 1", False)
    cpu, gpu = one.about.split("; ")
    assert cpu == "faiss-cpu 1.14.0, required by milvus-lite"
    assert gpu.startswith("faiss-gpu 1.14.0, required by ")
    assert "shop" not in gpu
    assert "pip uninstall -y faiss-cpu faiss-gpu, then pip install 'faiss-" in one.remedy


def test_one_wheel_of_faiss_is_fine() -> None:
    found = environment.faiss(environment.distributions())
    assert [(one.name, one.ok) for one in found] == [("wheels of faiss", True), ("faiss", True)]
    assert found[0].figure == 1


def test_a_faiss_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    one = named(environment.faiss({}), "faiss")
    assert (one.figure, one.ok) == ("failed", False)
    assert "an index needs FAISS, which cannot be imported" in one.about


def test_a_module_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = ModuleType("serving")
    stranger.__file__ = str(tmp_path / "serving.py")
    monkeypatch.setitem(sys.modules, "serving", stranger)
    (one,) = environment.packages()
    assert (one.figure, one.ok) == ("in the way", False)
    assert f"{tmp_path / 'serving.py'} is found first under that name" in one.about


def test_a_distribution_with_a_package_of_our_name(site: Path) -> None:
    assert [one.ok for one in environment.packages()] == [True]
    install(site, "open_clip_torch", "2.20")
    (site / "open_clip_torch-2.20.dist-info" / "top_level.txt").write_text("open_clip\ntraining\n", "utf-8")
    (one,) = environment.packages()
    assert not one.ok
    assert one.about == "other distributions install packages of the same names: training (open_clip_torch)"


def test_devices_are_facts() -> None:
    import torch

    found = environment.devices()
    assert all(one.ok for one in found)
    assert f"threads of torch: {torch.get_num_threads()}" in named(found, "processor").about
    if not torch.cuda.is_available():
        assert named(found, "graphics card").figure == "none"


def test_weights_absent_whole_and_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path))
    found = environment.weights()
    assert [(one.name, one.figure, one.ok) for one in found] == [(name, "absent", True) for name in REGISTRY]
    assert f"not in {tmp_path / 'minilm'}; fetched when first needed, 84 MB" in named(found, "minilm").about
    for name, entry in REGISTRY.items():
        (tmp_path / name).mkdir()
        for file in entry.files:
            with (tmp_path / name / file.name).open("wb") as empty:
                empty.truncate(file.bytes)
    assert [(one.figure, one.ok) for one in environment.weights()] == [("whole", True)] * len(REGISTRY)
    assert named(environment.weights(), "minilm").about == f"{tmp_path / 'minilm'}, 92 MB"
    (tmp_path / "minilm" / "vocab.txt").write_bytes(b"short")
    (tmp_path / "minilm" / "tokenizer.json").unlink()
    one = named(environment.weights(), "minilm")
    assert (one.figure, one.ok) == ("damaged", False)
    assert one.about.endswith("missing or of another size: tokenizer.json, vocab.txt")
    assert one.remedy == f"delete {tmp_path / 'minilm'}: it is then fetched again when needed"


def test_a_part_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    found = environment.environment()
    assert [one.name for one in found if not one.ok] == ["devices"]
    assert "import of torch halted" in named(found, "devices").about
    assert named(found, "minilm").threshold == "whole or absent"


def test_the_command_says_it_all_and_ends_with_1_where_something_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], site: Path
) -> None:
    def doctor(*arguments: str) -> tuple[int, Any]:
        monkeypatch.setattr(sys, "argv", ["twotower", "doctor", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capfd.readouterr().out

    code, out = doctor("--json")
    assert (code, json.loads(out)["healthy"]) == (0, True)
    install(site, "torch", "1.13.1")
    code, out = doctor()
    assert code == 1
    assert out.rstrip().endswith("! torch: pip install 'torch>=2.11'.")
    code, out = doctor("--help")
    assert (code, "1: something is not" in " ".join(out.split())) == (0, True)
