"""python -m benchmarks.gpu [--save]

What does a graphics card make of the encoders? Random weights of real sizes, contents prepared beforehand: texts,
pictures and clips a second, and the share of what the card reaches with a large bfloat16 matrix product in the same
run. And of an index over a million generated vectors: seconds to build it, queries a second in one batch, and recall,
beside the CPU. With no card it says so.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg
from rich.console import Console
from rich.table import Table
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

from benchmarks.ann_data import Data, mixture
from benchmarks.record import Record
from indexing import approximate, card
from indexing.exact import exact_search
from towers.embed import BATCH
from towers.encoders import musicnn, yamnet
from towers.encoders.contract import Encoder
from towers.encoders.openclip import NO_TEXT, OpenClip
from towers.precision import bf16_is_fast, fast_copy
from towers.text import TextConfig, TextEncoder

MATRIX = 8192  # rows and columns of the large product
RUNS = 10
LARGER = 8  # beside the batches that ship, some so many times as large
TOKENS = 126  # of a text, and two that mark its beginning and end
ITEMS, DIMENSION, ASKED, K = 1_000_000, 64, 1_000, 10  # of the generated vectors
KINDS = ("Flat", "IVF2048,Flat", "IVF2048,SQ8", "IVF2048,PQ32np")
CLIP = {yamnet.YamNet: (10, yamnet.PATCH, yamnet.BANDS), musicnn.MusicNN: (2, musicnn.PATCH, musicnn.BANDS)}  # of 5 s


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    options = parser.parse_args()
    screen = Console(stderr=True)
    if not torch.cuda.is_available():
        screen.print("There is no graphics card here, so there is nothing to measure.")
        return
    torch.manual_seed(0)
    record = Record("gpu")
    peak = matrix_rate(torch.device("cuda"), MATRIX)
    record.notes = {
        "protocol": "encoders: random weights, prepared contents, medians, in bfloat16 where the card is fast at it; "
        "indexes: search parameters that ship, FAISS's answers alone, medians",
        "runs": RUNS,
        "matrix product, TFLOP/s": round(peak / 1e12, 2),
    }
    screen.print(_encoders_measured(record, peak))
    if card.present():
        screen.print(_indexes_measured(record))
    else:
        screen.print("This FAISS was not built for graphics cards: with faiss-gpu, indexes are measured, too.")
    record.finish(save=options.save)


def _encoders_measured(record: Record, peak: float) -> Table:
    device = torch.device("cuda")
    table = Table(
        "encoder", "batch", "a second", "TFLOP/s", "share", title=f"matrix product: {peak / 1e12:.0f} TFLOP/s"
    )
    for name, encoder in _encoders().items():
        fast = fast_copy(encoder.to(device), bf16=bf16_is_fast(device))
        for size in (BATCH[encoder.modality], LARGER * BATCH[encoder.modality]):
            metrics = measure(fast, random_contents(fast, size), peak)
            record.rows.append({"method": name, "split": f"batch {size}", "seed": 0, "metrics": metrics})
            table.add_row(name, str(size), *(f"{value:,.2f}" for value in metrics.values()))
    return table


def _indexes_measured(record: Record) -> Table:
    table = Table("index", "built and searched on", "build, s", "queries a second", f"recall@{K}")
    data = mixture(ITEMS, DIMENSION, ASKED)
    split = f"{data.name}, {ASKED} queries in a batch"
    for kind in KINDS:
        for place in ("CPU", "card"):
            metrics = measure_index(kind, data, on_card=place == "card")
            record.rows.append({"method": f"{kind} on the {place}", "split": split, "seed": 0, "metrics": metrics})
            table.add_row(kind, place, *(f"{value:,.3f}" for value in metrics.values()))
    return table


def _encoders() -> dict[str, Encoder]:
    """Random weights of real sizes, on the CPU."""
    return {
        "BERT-base": random_text_encoder(BertConfig()),
        "ViT-B-32": random_picture_encoder("ViT-B-32"),
        "YAMNet": yamnet.YamNet().eval(),
        "musicnn": musicnn.MusicNN().eval(),
    }


def random_text_encoder(shape: BertConfig) -> TextEncoder:
    """A BERT of a shape that reads token ids only, for it has no vocabulary."""
    tokenizer = SimpleNamespace(cls_token_id=1, sep_token_id=2, pad_token_id=0)
    return TextEncoder(config=TextConfig(), backbone=BertModel(shape), tokenizer=tokenizer).eval()


def random_picture_encoder(name: str) -> OpenClip:
    """An architecture that OpenCLIP knows, with its usual preprocessing."""
    facts = open_clip.get_model_config(name)
    model = {"embed_dim": facts["embed_dim"], "vision_cfg": facts["vision_cfg"]}
    visual = open_clip.CLIP(**model, text_cfg=NO_TEXT).visual
    shape = {"model": model, "preprocess": asdict(PreprocessCfg(size=visual.image_size))}
    return OpenClip(config=SimpleNamespace(source=name), visual=visual, shape=shape).eval()


def random_contents(encoder: Encoder, count: int) -> list[Any]:
    """So many prepared contents, in the precision of the weights: full texts, pictures, or clips of 5 s."""
    dtype = next(encoder.parameters()).dtype
    if isinstance(encoder, TextEncoder):
        return torch.randint(3, encoder.backbone_config.vocab_size, (count, TOKENS)).tolist()
    if isinstance(encoder, OpenClip):
        size = encoder.shape["preprocess"]["size"]
        return list(torch.randn(count, 3, *((size, size) if isinstance(size, int) else size), dtype=dtype))
    return list(torch.randn(count, *CLIP[type(encoder)], dtype=dtype))


def measure(encoder: Encoder, contents: Sequence[Any], peak: float) -> dict[str, float]:
    """How fast `encoder` reads `contents`, in one batch.

    Args:
        encoder: in evaluation mode, on the device to measure.
        contents: prepared, on the CPU; bringing them to the device counts.
        peak: floating point operations a second of a large matrix product on that device.
    """
    with torch.inference_mode():
        seconds = seconds_of(lambda: encoder.encode(contents), encoder.device)
    return figures(len(contents), operations(encoder, contents), seconds, peak)


def measure_index(kind: str, data: Data, *, on_card: bool) -> dict[str, float]:
    """Seconds to build an index of `data`, queries a second in one batch, and the share of the K nearest found.

    Raises:
        RuntimeError: the CPU had to do what the card should.
    """
    started = time.perf_counter()
    if on_card:
        index = approximate.build(kind, data.vectors)
    else:
        index = approximate.empty(kind, data.vectors.shape[1])
        index.train(data.vectors)
        index.add(data.vectors)
    built = time.perf_counter() - started
    if parameters := approximate.default_parameters(index):
        approximate.set_parameters(index, parameters, data.queries[:1])
    finder = card.Finder(index)

    def search() -> np.ndarray:
        return finder.search(data.queries, K)[0] if on_card else index.search(data.queries, K)[1]

    found = search()
    if on_card and finder.place.startswith("the CPU"):
        raise RuntimeError(f"{kind} was searched on {finder.place}")
    nearest = exact_search(data.queries, data.vectors, K).rows
    hit = [np.isin(one, true).mean() for one, true in zip(found, nearest, strict=True)]
    seconds = seconds_of(search, torch.device("cpu"))
    return {
        "build, s": round(built, 2),
        "queries a second": round(len(data.queries) / seconds, 1),
        f"recall@{K}": round(float(np.mean(hit)), 4),
    }


def figures(count: int, flop: int, seconds: float, peak: float) -> dict[str, float]:
    """Contents a second, floating point operations a second in 10¹², and their share of `peak`."""
    return {
        "contents a second": round(count / seconds, 1),
        "TFLOP/s": round(flop / seconds / 1e12, 4),
        "share of matrix product": round(flop / seconds / peak, 4),
    }


def operations(encoder: Encoder, contents: Sequence[Any]) -> int:
    """Floating point operations of products and convolutions, a multiplication and its addition being two.

    Attention is spelled out for this, for some of its kernels are not counted.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        encoder.encode(contents)
    return counter.get_total_flops()


def matrix_rate(device: torch.device, size: int) -> float:
    """Floating point operations a second of a product of two square bfloat16 matrices."""
    left, right = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    return 2 * size**3 / seconds_of(lambda: left @ right, device)


def seconds_of(step: Callable[[], Any], device: torch.device) -> float:
    """Median seconds of a step, once it has warmed up."""
    times = []
    for run in range(RUNS + 2):
        _finish(device)
        started = time.perf_counter()
        step()
        _finish(device)
        if run >= 2:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
