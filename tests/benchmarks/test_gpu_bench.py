"""Operations are counted and divided right, on a small model; without a card it says so."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from transformers import BertConfig

pytest.importorskip("open_clip", reason="needs the extra media")

from benchmarks import gpu
from benchmarks.ann_data import mixture
from benchmarks.record import ROOT
from indexing import card
from towers.encoders.yamnet import LAYERS, YamNet
from towers.text import TextEncoder

TEXTS, WIDTH, INNER, LENGTH = 3, 32, 64, gpu.TOKENS + 2
CPU = torch.device("cpu")


@pytest.fixture
def encoder() -> TextEncoder:
    shape = {"hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": 2, "num_attention_heads": 2}
    return gpu.random_text_encoder(BertConfig(vocab_size=50, **shape))


def test_operations_of_a_bert_by_hand(encoder: TextEncoder) -> None:
    """A layer has four products of width by width, two of width by inner, and two of attention."""
    tokens = TEXTS * LENGTH
    layer = 2 * tokens * (4 * WIDTH * WIDTH + 2 * WIDTH * INNER) + 2 * tokens * 2 * LENGTH * WIDTH
    assert gpu.operations(encoder, gpu.random_contents(encoder, TEXTS)) == 2 * layer


def test_operations_of_convolutions_by_hand() -> None:
    encoder = YamNet().eval()
    rows, bands, width = 48, 32, 32
    want = 2 * rows * bands * width * 9
    for channels, stride in LAYERS:
        rows, bands = rows // stride, bands // stride
        want += 2 * rows * bands * width * (9 + channels)
        width = channels
    assert gpu.operations(encoder, [torch.randn(1, 96, 64)]) == want


def test_figures_by_hand() -> None:
    found = gpu.figures(count=64, flop=3 * 10**12, seconds=0.5, peak=24e12)
    assert found == {"contents a second": 128.0, "TFLOP/s": 6.0, "share of matrix product": 0.25}


def test_rates_with_a_clock_by_hand(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step takes a quarter of a second; of the runs' odd ones, which the median passes over, a hundred."""
    now, runs = [0.0], [0]

    def clock() -> float:
        runs[0] += 1
        now[0] += 0.0 if runs[0] % 2 else 100.0 if runs[0] in (2, 4, 8) else 0.25
        return now[0]

    monkeypatch.setattr(gpu, "time", SimpleNamespace(perf_counter=clock))
    assert gpu.matrix_rate(CPU, 64) == 2 * 64**3 / 0.25
    found = gpu.measure(encoder, gpu.random_contents(encoder, TEXTS), peak=1e9)
    assert found["contents a second"] == TEXTS * 4
    flop = gpu.operations(encoder, gpu.random_contents(encoder, TEXTS))
    assert found["share of matrix product"] == round(flop * 4 / 1e9, 4)


def test_an_index_on_the_cpu() -> None:
    """Every vector that Flat finds is one of the nearest; a card, where there is none, is not made up."""
    data = mixture(600, 8, 20)
    found = gpu.measure_index("Flat", data, on_card=False)
    assert list(found) == ["build, s", "queries a second", "recall@10"]
    assert found["recall@10"] == 1.0
    assert 0.2 < gpu.measure_index("IVF16,PQ4np", data, on_card=False)["recall@10"] < 1
    if not card.present():
        with pytest.raises(RuntimeError, match="Flat was searched on the CPU \\(there is no graphics card\\)"):
            gpu.measure_index("Flat", data, on_card=True)


def test_without_a_card_it_says_so() -> None:
    command = [sys.executable, "-c", "import torch; torch.cuda.is_available = lambda: False; "]
    command[-1] += "import sys; sys.argv[1:] = []; from benchmarks.gpu import main; main()"
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.strip() == "There is no graphics card here, so there is nothing to measure."
