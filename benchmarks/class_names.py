"""Pictures and sounds placed among texts without any training: by the names of the classes that an encoder knows.

The mean of the text vectors of the likeliest classes' names, weighted by how likely they are (Norouzi et al.,
"Zero-shot learning by convex combination of semantic embeddings", ICLR 2014).
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from timm.data import ImageNetInfo
from torch import Tensor

from towers.encoders.openclip import STAND_IN
from towers.encoders.yamnet import stored_weights
from towers.fusion import unit
from towers.text import TextEncoder, embed_texts
from towers.weights import REGISTRY, fetch

LIKELIEST = 10


def among_texts(
    vectors: Float[Tensor, "n c"], kind: str, encoder: TextEncoder, weights: Path | None = None
) -> np.ndarray:
    """Unit vectors ``(N, D)`` in the space of the text encoder.

    Args:
        vectors: of N pictures by efficientnet-lite0, or of N sounds by YAMNet.
        kind: ``"image"`` or ``"audio"``.
        encoder: reads the names of the classes.
        weights: folder to look in before anything is downloaded.
    """
    weight, bias, names = (_image_classes if kind == "image" else _audio_classes)(weights)
    scores = vectors @ weight.T + bias
    likely = scores.softmax(-1) if kind == "image" else scores.sigmoid()  # a picture is one thing, a sound may be many
    share, which = likely.topk(LIKELIEST)
    texts = unit(torch.from_numpy(embed_texts(encoder, names)))
    return unit((share[..., None] * texts[which]).sum(1)).numpy()


def _image_classes(weights: Path | None) -> tuple[Tensor, Tensor, list[str]]:
    path = fetch(STAND_IN, folder=weights) / REGISTRY[STAND_IN].files[0].name
    stored = list(torch.load(path, map_location="cpu", weights_only=True).values())
    known = ImageNetInfo()
    names = [known.index_to_description(number).partition(",")[0] for number in range(1000)]
    return stored[-2], stored[-1], names


def _audio_classes(weights: Path | None) -> tuple[Tensor, Tensor, list[str]]:
    folder = fetch("yamnet", folder=weights)
    weight, bias = stored_weights(folder)[-1]
    with (folder / "yamnet_class_map.csv").open(encoding="utf-8") as file:
        names = [row["display_name"] for row in csv.DictReader(file)]
    return weight, bias, names
