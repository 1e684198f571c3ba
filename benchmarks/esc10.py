"""python -m benchmarks.esc10 --data-dir DIR [--save]

How well do the audio encoders hear? ESC-10 (Piczak, "ESC: Dataset for Environmental Sound Classification", 2015): 400
clips of ten kinds of sounds in five published folds. Each fold's clips are named by those of the other four, from
frozen vectors: by the nearest clip, and by a logistic regression whose regularisation the other four folds choose.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.record import Record, plain
from towers.embed import VectorCache
from towers.encoders.configs import AudioConfig
from towers.encoders.contract import encoder_class
from towers.encoders.yamnet import RATE, log_mel
from towers.sounds import read_sound
from training.measuring.metrics import bootstrap, paired_difference
from training.measuring.table import results_table

FLOOR = "log-mel statistics"
SOURCES = ("yamnet", "musicnn")  # those that need no model hub
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)  # scikit-learn's C, the inverse of the regularisation
GOAL = 0.9  # what `yamnet`, which is for sounds of all kinds, should reach by logistic regression


def main() -> None:
    """Run the benchmark."""
    options = _options()
    screen = Console(stderr=True, width=160)
    if options.data_dir is None or not (options.data_dir / "esc10").is_dir():
        screen.print("esc10 needs --data-dir DIR with the folder esc10/ and is skipped")
        return
    record = Record("esc10")
    clips = pl.read_parquet(options.data_dir / "esc10" / "clips.parquet")
    paths = [options.data_dir / "esc10" / name for name in clips["audio"]]
    labels, folds = clips["label"].to_numpy(), clips["fold"].to_numpy()
    right, strengths = {}, {}
    for name, vectors in _all_vectors(paths).items():
        right[name, "nearest"] = nearest(vectors, labels, folds) == labels
        named, strengths[name] = linear(vectors, labels, folds)
        right[name, "linear"] = named == labels
    reached = float(right["yamnet", "linear"].mean())
    record.rows = [_row(*names, hits, folds) for names, hits in right.items()]
    record.notes = {
        "protocol": "five published folds, each named by the other four; 95 % intervals by bootstrap over clips; "
        "nearest: cosine once the mean of the other four is removed; linear: standardised by the other four, "
        "regularisation chosen by leaving each of them out in turn",
        "goal": {"method": "yamnet", "split": "linear", "accuracy": GOAL, "reached": reached >= GOAL},
        "strengths": strengths,
        "differences": _differences(right),
    }
    metrics = list(record.rows[0]["metrics"])
    screen.print(results_table(record.rows, metrics=metrics, title="ESC-10, accuracy"))
    screen.print(f"yamnet, linear: {reached:.3f}, {'at least' if reached >= GOAL else 'below'} {GOAL:.2f}")
    record.finish(save=options.save)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="folder with esc10/")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    return parser.parse_args()


def _all_vectors(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """Vectors ``(N, D)`` of all clips, by method."""
    found = {FLOOR: np.stack([log_mel_statistics(path) for path in paths])}
    for source in SOURCES:
        encoder = encoder_class("audio", source).load(AudioConfig(source=source))
        embedded = VectorCache().embed(encoder, list(paths), progress=True)
        assert embedded.present.all(), embedded.faults
        found[source] = embedded.vectors.numpy()
    return found


def log_mel_statistics(clip: Path | bytes) -> np.ndarray:
    """Mean and standard deviation of each log-mel band over a clip ``(128,)``: what is there before any encoder."""
    bands = log_mel(read_sound(clip, RATE))
    return torch.cat([bands.mean(0), bands.std(0, correction=0)]).numpy()


def nearest(vectors: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Each clip's label ``(N,)`` by the nearest clip of the other folds, by cosine once their mean is removed."""
    named = np.empty_like(labels)
    for fold in np.unique(folds):
        known, asked = folds != fold, folds == fold
        centred = vectors - vectors[known].mean(axis=0)
        unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
        named[asked] = labels[known][(unit[asked] @ unit[known].T).argmax(axis=1)]
    return named


def linear(vectors: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Each clip's label ``(N,)`` by a logistic regression on the other folds, and the strength chosen for each fold."""
    named, strengths = np.empty_like(labels), []
    for fold in np.unique(folds):
        known, asked = folds != fold, folds == fold
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        search = GridSearchCV(model, {"logisticregression__C": STRENGTHS}, cv=LeaveOneGroupOut())
        search.fit(vectors[known], labels[known], groups=folds[known])
        named[asked] = search.predict(vectors[asked])
        strengths.append(search.best_params_["logisticregression__C"])
    return named, strengths


def _row(method: str, split: str, right: np.ndarray, folds: np.ndarray) -> dict[str, Any]:
    """Accuracy over clips with its interval, and that of each fold."""
    accuracy = plain(bootstrap(right.astype(float)))
    each = {f"fold {fold}": round(float(right[folds == fold].mean()), 6) for fold in np.unique(folds)}
    return {"method": method, "split": split, "seed": 0, "metrics": {"accuracy": accuracy, **each}}


def _differences(right: dict[tuple[str, str], np.ndarray]) -> list[dict[str, Any]]:
    """Each encoder less the floor, on the same clips."""
    differences = []
    for (method, split), hits in right.items():
        if method != FLOOR:
            value = paired_difference(hits.astype(float), right[FLOOR, split].astype(float))
            names = {"metric": "accuracy", "seed": 0, "split": split, "ours": method, "theirs": FLOOR}
            differences.append({**names, "difference": [round(part, 6) for part in value]})
    return differences


if __name__ == "__main__":
    main()
