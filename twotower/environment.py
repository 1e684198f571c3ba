"""What twotower runs on: versions, FAISS, modules in the way, hardware, pretrained weights."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from functools import partial
from importlib import metadata
from pathlib import Path

import twotower
from towers.weights import REGISTRY, Entry, cache_folder
from training.measuring.checkup import Finding, attempt
from twotower.shadow import PACKAGES, refuse_shadows

VERSIONS = {
    "torch": ("2.11", "2.14.1"),
    "transformers": ("5", "5.24.0"),
    "tokenizers": ("0.22", "0.23.3"),
    "accelerate": ("1.10", "1.15.0"),
    "safetensors": ("0.6", "0.8.0"),
    "numpy": ("2", "2.4.6"),
    "pyarrow": ("20", "26.0.1"),
    "polars": ("1.30", "2.1.0"),
    "pydantic": ("2.10", "2.14.4"),
}
"""The oldest version that does, as pyproject.toml says, and the newest tried, as constraints.txt does."""

PYTHON, FAISS = ("3.11", "3.11"), ("1.15", "1.15.1")
WHEELS = re.compile(r"faiss(-(cpu|gpu).*)?")  # all install the one package `faiss`


def environment() -> list[Finding]:
    """Everything, in the order in which a person would look."""
    installed = distributions()
    return [
        *attempt("versions", partial(versions, installed)),
        *attempt("faiss", partial(faiss, installed)),
        *attempt("packages", packages),
        *attempt("devices", devices),
        *attempt("weights", weights),
    ]


Installed = Mapping[str, metadata.Distribution]


def distributions() -> Installed:
    """Every installed distribution by its normalised name; the first on the path counts, as for Python."""
    found: dict[str, metadata.Distribution] = {}
    for one in metadata.distributions():
        if name := one.metadata["Name"]:
            found.setdefault(_normal(name), one)
    return found


def versions(installed: Installed) -> list[Finding]:
    """Python, twotower and what it stands on."""
    python = _version("python", platform.python_version(), *PYTHON, "install Python 3.11 or newer")
    ours = Finding("twotower", twotower.__version__, "any", True, f"in {Path(__file__).parent}", "")
    return [python, ours, *(_package(installed, name, *tried) for name, tried in VERSIONS.items())]


def faiss(installed: Installed) -> list[Finding]:
    """How many wheels bring FAISS, and the version that is imported."""
    from indexing.approximate import library

    wheels = {name: one.version for name, one in sorted(installed.items()) if WHEELS.fullmatch(name)}
    about = "; ".join(
        f"{name} {version}, required by {_wanted_by(installed, name)}" for name, version in wheels.items()
    )
    mine = "faiss-gpu" if (platform.system(), platform.machine()) == ("Linux", "x86_64") else "faiss-cpu"
    install = f"pip install '{mine}>={FAISS[0]}'"
    remedy = (
        f"they write the same files over each other: pip uninstall -y {' '.join(wheels)}, then {install}, and from now "
        "on install with --no-deps what requires another one"
    )
    # No wheel at all is a FAISS that came in another way, as from conda; the import tells.
    one = Finding("wheels of faiss", len(wheels), "at most 1", len(wheels) <= 1, about, remedy)
    return [one, *attempt("faiss", lambda: [_version("faiss", library().__version__, *FAISS, install)])]


def packages() -> list[Finding]:
    """Modules and distributions that have the name of a package of ours."""
    try:
        refuse_shadows()
        said = ""
    except ImportError as error:
        said = str(error)
    owners = metadata.packages_distributions()
    others = sorted({f"{name} ({other})" for name in PACKAGES for other in owners.get(name, ()) if other != "twotower"})
    if others and not said:
        said = f"other distributions install packages of the same names: {', '.join(others)}"
    remedy = "rename, upgrade or uninstall what is named, then install twotower anew"
    return [Finding("packages of twotower", "in the way" if said else "found", "found", not said, said, remedy)]


def devices() -> list[Finding]:
    """Cores and graphics cards, and whether they multiply bfloat16 in hardware; facts, never a fault."""
    import torch

    from towers.precision import bf16_is_fast

    def fast(device: str) -> str:
        return "bfloat16 in hardware" if bf16_is_fast(torch.device(device)) else "no bfloat16 in hardware"

    cores = f"{os.cpu_count()} cores"
    about = f"{fast('cpu')}; threads of torch: {torch.get_num_threads()}"
    found = [Finding("processor", cores, "any", True, about, "")]
    for number in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(number)
        about = f"{card.total_memory / 2**30:.0f} GiB, {fast(f'cuda:{number}')}"
        found.append(Finding("graphics card", card.name, "any", True, about, ""))
    return found if len(found) > 1 else [*found, Finding("graphics card", "none", "any", True, "", "")]


def weights() -> list[Finding]:
    """Pretrained weights and sample data in the cache; what is absent is fetched when it is first needed."""
    return [_weights(entry, cache_folder() / entry.name) for entry in REGISTRY.values()]


def _weights(entry: Entry, folder: Path) -> Finding:
    if not folder.exists():
        about = f"not in {folder}; fetched when first needed, {entry.wheel_bytes / 1e6:.0f} MB"
        return Finding(entry.name, "absent", "whole or absent", True, about, "")
    # Sizes only: checksums are verified each time the files are used.
    wrong = [file.name for file in entry.files if _size(folder / file.name) != file.bytes]
    about = f"{folder}, {entry.bytes / 1e6:.0f} MB"
    if wrong:
        about += f"; missing or of another size: {', '.join(wrong)}"
    figure, remedy = "damaged" if wrong else "whole", f"delete {folder}: it is then fetched again when needed"
    return Finding(entry.name, figure, "whole or absent", not wrong, about, remedy)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _package(installed: Installed, name: str, least: str, tried: str) -> Finding:
    version = installed[name].version if name in installed else ""
    return _version(name, version, least, tried, f"pip install '{name}>={least}'")


def _version(name: str, found: str, least: str, tried: str, remedy: str) -> Finding:
    threshold = f"from {least}, tried to {tried}"
    precision = len(_numbers(tried))  # Python is tried by minor version
    about = "newer than what was tried" if _numbers(found)[:precision] > _numbers(tried) else ""
    return Finding(name, found or "missing", threshold, _numbers(found) >= _numbers(least), about, remedy)


def _numbers(version: str) -> tuple[int, ...]:
    """``"2.14.1+cu130"`` as (2, 14, 1)."""
    return tuple(int(number) for number in re.findall(r"\d+", version.split("+")[0])[:3])


def _normal(name: str) -> str:
    """The name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _wanted_by(installed: Installed, name: str) -> str:
    """The distributions that require `name` on this machine."""
    from packaging.requirements import Requirement

    wanted = []
    for other, one in installed.items():
        needs = [Requirement(line) for line in one.requires or () if name in _normal(line)]
        if any(_normal(n.name) == name and (n.marker is None or n.marker.evaluate({"extra": ""})) for n in needs):
            wanted.append(other)
    return ", ".join(sorted(wanted)) or "nothing installed"
