"""The bench of approximate search: the same question to all, recall by scores, the least work that reaches a target."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import ann
from benchmarks.ann_data import Data, mixture, sentences


@pytest.fixture
def data() -> Data:
    return mixture(2_000, 16, ann.FEW + 50)


def test_generated_vectors_are_the_same_each_time_and_queries_lie_elsewhere(data: Data) -> None:
    again = mixture(2_000, 16, ann.FEW + 50)
    np.testing.assert_array_equal(data.vectors, again.vectors)
    np.testing.assert_allclose(np.linalg.norm(data.vectors, axis=1), 1, atol=1e-6)
    near = np.sort(data.vectors[:300] @ data.vectors.T, axis=1)[:, -2].mean()
    assert near > np.sort(data.queries @ data.vectors.T, axis=1)[:, -1].mean() + 0.01


def test_sentences_are_those_of_the_descriptions_once(tmp_path: Path) -> None:
    text = (
        "Package: one\nDescription-en: a small tool for testing things\n It reads sentences from files. And it\n goes"
        " on over the end of a line!\n .\n  * a point that stands alone\n .\n Short.\n\n"
        "Package: two\nDescription-en: a small tool for testing things\n It reads sentences from files.\n"
    )
    with pa.output_stream(str(tmp_path / "x_Translation-en.lz4"), compression="lz4") as file:
        file.write(text.encode())
    assert sentences(tmp_path) == [
        "a small tool for testing things",
        "It reads sentences from files.",
        "And it goes on over the end of a line!",
        "* a point that stands alone",
    ]


def test_a_worker_answers_as_exact_search_does(data: Data, tmp_path: Path) -> None:
    exam = ann.Exam.of(data, tmp_path)
    with ann._contender("faiss IVF8,Flat", Path(sys.executable), exam) as one:
        assert one.facts["settings"] == [[]]
        assert one.facts["most"] == 8
        assert one.facts["bytes_per_item"] > 4 * 16
        answer = one.worker.ask(**exam.request([8], ann.AT_ONE, rows=True))
        assert exam.recall(answer["rows"]) == 1
        assert answer["wall"] > 0
        with pytest.raises(RuntimeError, match="nprobe"):
            one.worker.ask(**exam.request(["many"], ann.AT_ONE))
        ann.calibrate(one, exam)
        ann.measure([one], exam, rounds=2)
    assert one.settings[0.9][0] <= one.settings[0.99][0] <= 8
    assert one.recalls[0.99] > 0.97
    found = ann.row(one, "here")["metrics"]
    assert {f"qps@.{target}{way}" for target in (90, 95, 99) for way in ann.WAYS} < set(found)


class Fake:
    """Finds the nearest in place of the setting's share of ranks; time grows with the setting."""

    def __init__(self, exam: ann.Exam, cost: float) -> None:
        self.exam, self.cost = exam, cost
        self.order = np.argsort(-(exam.data.queries @ exam.data.vectors.T), axis=1)

    def ask(self, *, setting: list[Any], **_: Any) -> dict[str, Any]:
        found = self.order[:, : ann.K].copy()
        found[:, min(setting[-1], ann.K) :] = -1
        return {"rows": found.tolist(), "processor": self.cost * setting[-1], "wall": self.cost * setting[-1]}


def test_the_least_work_that_reaches_a_target_is_found_and_compared(data: Data, tmp_path: Path) -> None:
    exam = ann.Exam.of(data, tmp_path)
    facts = {"settings": [[]], "most": 50, "build_s": 1.0, "bytes_per_item": 64.0}
    ours, other = (ann.Contender(name, Fake(exam, cost), facts) for name, cost in (("twotower", 1.0), ("peer", 3.0)))  # type: ignore[arg-type]
    for one in (ours, other):
        ann.calibrate(one, exam)
        assert one.settings == {0.9: [9], 0.95: [10], 0.99: [10]}
        assert one.recalls == {0.9: 0.9, 0.95: 1.0, 0.99: 1.0}
    ann.measure([ours, other], exam, rounds=3)
    found = ann.beside(ours, [other])
    assert found["qps@.95"] == {"ratio": 3.0, "best": "peer"}
    assert ann.row(ours, "here")["metrics"]["qps@.90"] == pytest.approx(300 / 9, abs=0.1)
    assert ann.row(ours, "here")["metrics"]["recall@10"] == 1


def test_the_grid_has_about_the_root_of_the_items_as_lists() -> None:
    assert ann.faiss_grid(200_000, 384)[:4] == ["HNSW16", "HNSW32", "IVF512,Flat", "IVF1024,Flat"]
    assert ann.faiss_grid(200_000, 384)[-1] == "IVF1024,PQ384x4fs,RFlat"
