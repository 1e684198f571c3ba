"""A loss or a gradient that is no number: training stops, the weights as they were, and the step is written down."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from towers.artefact import MANIFEST, atomic_file, write_json
from towers.errors import ArtefactError, TwoTowerError
from towers.history import Histories
from towers.ids import IdList
from training.sampling import Windows


def refuse_no_number(
    name: str,
    values: Mapping[str, float],
    step: int,
    windows: Windows,
    past: Histories,
    ids: IdList,
    folder: Path | None,
) -> None:
    """Stop where a value is NaN or infinite.

    Args:
        name: of the value.
        values: by name; ``"loss"``, ``"gradient"``, and the losses that make it up.
        step: number of the step, from 0.
        windows, past, ids: what the step looked at, all that its people did, and the ids of items.
        folder: where that is written down, as JSON and, as the tensors that were read, in safetensors; None: nowhere.

    Raises:
        TwoTowerError: it is.
    """
    if math.isfinite(values[name]):
        return
    parts = {part: value for part, value in values.items() if part not in ("loss", "gradient")}
    which = f" ({', '.join(f'{part} {value:.4g}' for part, value in parts.items())})" if len(parts) > 1 else ""
    kept = "" if folder is None else _keep(folder / f"step-{step}", step, windows, past, ids)
    before = folder is not None and any(folder.glob(f"*/{MANIFEST}"))
    again = "; the checkpoints before it are good, the same training goes on from there" if before else ""
    raise TwoTowerError(f"the {name} became {values[name]} at step {step}{which}{kept}: lower train.rate{again}")


def _keep(path: Path, step: int, windows: Windows, past: Histories, ids: IdList) -> str:
    """Words that say where it is."""
    pasts = [ids.take(past.take([person]).items) for person in windows.people]
    read = {name: part for name, part in vars(windows.inputs).items() if part is not None}
    tensors = {**read, "targets": windows.targets, "target_ratings": windows.ratings, "target_weights": windows.weights}
    try:
        with atomic_file(path.with_suffix(".json")) as temporary:
            write_json(temporary, {"step": step, "rows of people": windows.people.tolist(), "their items": pasts})
        with atomic_file(path.with_suffix(".safetensors")) as temporary:
            save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, temporary)
    except (OSError, ArtefactError, SafetensorError) as error:  # a full disk must not hide why training stopped
        return f", whose people and items could not be written down ({error})"
    return f", whose people and items are in {path}.json and what was read of them in {path}.safetensors"
