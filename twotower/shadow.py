"""Make sure that `import training` and its like find the packages of this distribution.

The packages have ordinary names, and Python takes the first match on its path, where a script's own folder comes
first: a `training.py` there would be imported in place of ours and fail far from the cause.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

PACKAGES = ("towers", "indexing", "training", "serving")


def refuse_shadows() -> None:
    """Check that every package of this distribution is the one beside this package.

    Raises:
        ImportError: another module has the name of one of them; the message says where it lies. (A plain
            `ImportError`, since `towers.errors` may itself be out of reach.)
    """
    home = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        found = _where(name)
        if found != home / name:
            raise ImportError(_explanation(name, found, home), name=name, path=None if found is None else str(found))


def _where(name: str) -> Path | None:
    """Where `import name` leads: the folder of a package, the file of a module, or None for nowhere."""
    if name in sys.modules:
        module = sys.modules[name]
        file, folders = getattr(module, "__file__", None), getattr(module, "__path__", None)
    else:
        spec = importlib.util.find_spec(name)
        file, folders = (None, None) if spec is None else (spec.origin, spec.submodule_search_locations)
    # A package with an __init__ has one folder; a namespace package has no file and may have several.
    if folders:
        return Path(next(iter(folders))).resolve()
    return None if file is None else Path(file).resolve()


def _explanation(name: str, found: Path | None, home: Path) -> str:
    wanted = f"twotower needs its package {name!r} at {home / name}"
    if found is None:
        return f"{wanted}, but Python finds none: install twotower anew"
    kind = "folder" if found.is_dir() else "file"
    return (
        f"{wanted}, but the {kind} {found} is found first under that name: rename that {kind}, "
        "start Python from another folder or with -P, or, if another package brought it, uninstall or upgrade that one"
    )
