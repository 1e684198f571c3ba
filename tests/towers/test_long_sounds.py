"""An hour of sound needs little memory beside the model, whichever encoder reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("soundfile", reason="needs the extra media")

ROOT = Path(__file__).resolve().parents[2]
MOST = 300  # MB

# Where no hub is reached, CLAP and wav2vec 2.0 have random weights, but the sizes of the published models.
MEASURE = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np, soundfile, torch
from towers.encoders.contract import encoder_class

def megabytes(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) / 1024

def built(source):
    kind = encoder_class("audio", source)
    if source == "clap":
        from transformers import ClapAudioConfig, ClapAudioModelWithProjection, ClapFeatureExtractor
        model = ClapAudioModelWithProjection(ClapAudioConfig())
        extractor = ClapFeatureExtractor(truncation="rand_trunc")
        return kind(config=None, model=model, extractor=extractor).eval()
    if source.startswith("pipelines"):
        return kind.empty(SimpleNamespace(source=source), None)
    return kind.load(SimpleNamespace(source=source))

torch.set_num_threads(1)
source, path, minutes = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(0)
soundfile.write(sys.argv[4], rng.uniform(-0.5, 0.5, (4_800, 2)), 48_000)
with soundfile.SoundFile(path, "w", 48_000, 2, "PCM_16") as file:
    for _ in range(6 * minutes):
        file.write(rng.uniform(-0.5, 0.5, (480_000, 2)))
encoder = built(source)
with torch.inference_mode():  # what is imported and built at first use stays, and belongs to the model
    encoder.encode([encoder.prepare(Path(sys.argv[4]))])
start = megabytes("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
with torch.inference_mode():
    vector = encoder.encode([encoder.prepare(path)])
print(json.dumps({"megabytes": megabytes("VmHWM") - start, "finite": bool(vector.isfinite().all())}))
"""


def megabytes(source: str, folder: Path, minutes: int) -> float:
    """Peak of resident memory over `prepare` and `encode`, above what the encoder itself takes."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux to measure memory")
    command = [sys.executable, "-c", MEASURE, source, str(folder / "long.wav"), str(minutes), str(folder / "short.wav")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["finite"]
    return result["megabytes"]


def test_memory_of_a_few_minutes(tmp_path: Path) -> None:
    """What 2 minutes take beside working space: 3 MB of features; decoded at once they would take 46."""
    assert megabytes("yamnet", tmp_path, 2) < 90


@pytest.mark.slow
@pytest.mark.parametrize("source", ["yamnet", "musicnn", "clap", "pipelines:WAV2VEC2_BASE"])
def test_memory_of_an_hour(tmp_path: Path, source: str) -> None:
    assert megabytes(source, tmp_path, 60) < MOST
