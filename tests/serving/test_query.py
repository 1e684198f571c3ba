"""The exported query tower asks what the model asks, without torch, and only beside an index of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")

from typer.testing import CliRunner

from indexing.index import ItemIndex
from serving.export import export_query
from serving.query import Items, Precision, QueryTower
from towers.errors import ArtefactError, InputError, MissingExtraError
from towers.history import Histories
from towers.model import TwoTower
from towers.model_config import ModelConfig, UserConfig
from towers.sequence_reader import SequenceConfig
from towers.user import Memory
from twotower.cli import app

ROOT = Path(__file__).resolve().parents[2]
SAME, NEAR = 0.9999, 0.98  # least cosine to the model's queries, in float32 and in int8
SENTENCE = "quiet piano music for a rainy evening"


@pytest.fixture(scope="module")
def exported(tiny_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the small world's query tower in float32."""
    out = tmp_path_factory.mktemp("exported") / "query"
    export_query(tiny_run.model, out, precision="float32")
    return out


@pytest.fixture(scope="module")
def rounded(tiny_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in int8, by the command line."""
    out = tmp_path_factory.mktemp("rounded") / "query"
    done = CliRunner().invoke(app, ["export", "--model", str(tiny_run.model_folder), "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out


def memory_of(run: Any) -> Memory:
    return run.model.memory(run.catalog, run.index.vectors[run.index.ids.rows(run.catalog.ids.array)])


def pasts() -> Histories:
    """Histories of 1 to 130 events, more than are read: rated or not, minutes to months apart; and an empty one."""
    rng = np.random.default_rng(0)
    lengths = [1, 2, 5, 40, 130, 0]
    items = [rng.integers(40, size=n).tolist() for n in lengths]
    times = [(1.6e9 + np.cumsum(10 ** rng.uniform(1, 7, n))).tolist() for n in lengths]
    ratings = [np.where(rng.random(n) < 0.3, np.nan, rng.random(n)).tolist() for n in lengths]
    return Histories.of(items, times=times, ratings=ratings)


def another(run: Any, user: UserConfig) -> TwoTower:
    """An untrained model with another user tower."""
    config: ModelConfig = run.model.config.model_copy(update={"user": user})
    return TwoTower(config=config, encoder=run.model.encoder, ids=run.model.ids, template=run.model.template).eval()


def both(run: Any, folder: Path, histories: Histories, texts: list[str | None]) -> np.ndarray:
    """Cosine of each query to the model's."""
    tower = QueryTower.load(folder)
    ours = tower.encode(histories, tower.beside(run.index, run.catalog), texts)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    return (ours * run.model.encode(histories, memory_of(run), texts)).sum(1)


@pytest.mark.parametrize(("folder", "least"), [("exported", SAME), ("rounded", NEAR)])
def test_queries_are_the_models(tiny_run: Any, folder: str, least: float, request: pytest.FixtureRequest) -> None:
    where, histories = request.getfixturevalue(folder), pasts()
    told = [None, None, None, None, None, SENTENCE]
    assert both(tiny_run, where, histories, told).min() >= least  # histories, and a sentence alone
    assert both(tiny_run, where, histories, [SENTENCE] * 6).min() >= least  # both
    assert both(tiny_run, where, Histories.of([[3, 4], []]), ["night " * 300, "violin"]).min() >= least  # no times


def test_int8_is_rounded_and_smaller(exported: Path, rounded: Path, tiny_run: Any) -> None:
    full = both(tiny_run, exported, pasts().take(range(5)), [None] * 5)
    assert both(tiny_run, rounded, pasts().take(range(5)), [None] * 5).max() < full.min() <= full.max()
    assert (rounded / "text.onnx").stat().st_size < 0.6 * (exported / "text.onnx").stat().st_size
    assert QueryTower.load(rounded).config.precision == "int8"


def test_every_person_of_the_log(exported: Path, tiny_run: Any) -> None:
    _, histories = tiny_run.log.histories(tiny_run.catalog)
    assert both(tiny_run, exported, histories, [None] * len(histories)).min() >= SAME


def test_who_answers_has_no_torch(exported: Path, tiny_run: Any) -> None:
    code = f"""
import json, sys
from indexing.index import ItemIndex
from serving.query import QueryTower
from towers.catalog import Catalog
from towers.history import Histories
index, catalog = ItemIndex.load({str(tiny_run.index_folder)!r}), Catalog.read({str(tiny_run.items)!r})
tower = QueryTower.load({str(exported)!r})
pasts = Histories.of([catalog.rows(["m03", "m07"]).tolist(), []])
queries = tower.encode(pasts, tower.beside(index, catalog), [None, {SENTENCE!r}])
found = index.ids.take(index.search(queries, 3).rows[0])
print(json.dumps([queries.tolist(), found, sorted({{"torch", "transformers"}} & set(sys.modules))]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    queries, found, loaded = json.loads(done.stdout)
    assert loaded == []
    rows = tiny_run.catalog.rows(["m03", "m07"]).tolist()
    wanted = tiny_run.model.encode(Histories.of([rows, []]), memory_of(tiny_run), [None, SENTENCE])
    np.testing.assert_allclose(queries, wanted, atol=1e-4)
    assert found == tiny_run.index.ids.take(tiny_run.index.search(wanted, 3).rows[0])


def test_nothing_known_is_said(exported: Path, tiny_run: Any) -> None:
    tower = QueryTower.load(exported)
    items = tower.beside(tiny_run.index, tiny_run.catalog)
    with pytest.raises(InputError, match="nothing is known of this person"):
        tower.encode(Histories.of([[]]), items)


def test_a_stranger_index_is_refused(exported: Path, tiny_run: Any) -> None:
    tower = QueryTower.load(exported)
    assert (tower.space, tower.model) == (tiny_run.model.space, tiny_run.model.fingerprint)
    other = ItemIndex.from_arrays(tiny_run.index.ids, tiny_run.index.vectors, space="another")
    with pytest.raises(ArtefactError, match="belongs to another model: it is of the space 'another', the query tower"):
        tower.beside(other, tiny_run.catalog)


def test_items_that_the_index_lacks_have_no_vector(exported: Path, tiny_run: Any) -> None:
    index = ItemIndex.from_arrays(
        tiny_run.index.ids.take(np.arange(1, 40)), tiny_run.index.vectors[1:], space=tiny_run.index.space
    )
    items = QueryTower.load(exported).beside(index, tiny_run.catalog)
    assert isinstance(items, Items)
    gone = tiny_run.catalog.rows([tiny_run.index.ids[0]])[0]
    assert np.flatnonzero(~items.has_vector).tolist() == [gone]
    assert not items.vectors[gone].any()


def test_damage_is_refused(exported: Path, tiny_run: Any, tmp_path: Path) -> None:
    export_query(tiny_run.model, tmp_path / "query", precision="float32")
    graph = tmp_path / "query" / "sequence.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"sequence.onnx has changed"):
        QueryTower.load(tmp_path / "query")
    with pytest.raises(ArtefactError, match="is a 'twotower/model', expected a 'twotower/query'"):
        QueryTower.load(tiny_run.model_folder)
    with pytest.raises(ArtefactError, match="is not a whole twotower/query"):
        export_query(tiny_run.model, tiny_run.model_folder)


@pytest.mark.parametrize(("off", "recent"), [("sequence", 6), ("text", 6), ("text", 0)])
def test_a_model_with_one_reader(off: str, recent: int, tiny_run: Any, tmp_path: Path) -> None:
    user = tiny_run.model.config.user
    sequence = user.sequence.model_copy(update={"recent": recent})
    model = another(tiny_run, user.model_copy(update={"sequence": sequence, off: None}))
    export_query(model, tmp_path / "query", precision="float32")
    index = ItemIndex.from_arrays(tiny_run.catalog.ids, model.embed_items(tiny_run.catalog), space=model.space)
    tower = QueryTower.load(tmp_path / "query")
    wanted = model.encode(pasts().take(range(5)), model.memory(tiny_run.catalog, index.vectors))
    ours = tower.encode(pasts().take(range(5)), tower.beside(index, tiny_run.catalog))
    assert (ours * wanted).sum(1).min() >= SAME
    kept = {"sequence": "text.onnx", "text": "sequence.onnx"}[off]
    assert [one.name for one in (tmp_path / "query").glob("*.onnx")] == [kept]


@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_a_missing_library_is_named(
    library: str, tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf"need.? {library}: pip install 'twotower\[onnx\]'"):
        export_query(tiny_run.model, tmp_path / "query")
    assert not (tmp_path / "query").exists()


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_set_has_one_query_in_every_order(precision: Precision, tiny_run: Any, tmp_path: Path) -> None:
    sequence = SequenceConfig(ordered=False, length=50)
    user = tiny_run.model.config.user.model_copy(update={"sequence": sequence, "text": None})
    model = another(tiny_run, user)
    torch.nn.init.normal_(model.user.sequence.turn.weight, std=0.1)
    export_query(model, tmp_path / "query", precision=precision)
    index = ItemIndex.from_arrays(tiny_run.catalog.ids, model.embed_items(tiny_run.catalog), space=model.space)
    tower = QueryTower.load(tmp_path / "query")
    sets = Histories.of([[3, 20, 11, 7], [20, 7, 3, 11], [7, 7, 20, 3, 7, 11]])
    ours = tower.encode(sets, tower.beside(index, tiny_run.catalog))
    np.testing.assert_array_equal(ours[0], ours[1])
    np.testing.assert_array_equal(ours[0], ours[2])  # what was met several times counts once
    wanted = model.encode(sets, model.memory(tiny_run.catalog, index.vectors))
    np.testing.assert_allclose(ours, wanted, atol=1e-4 if precision == "float32" else 0.02)


def test_several_interests_are_refused(tiny_run: Any, tmp_path: Path) -> None:
    user = tiny_run.model.config.user.model_copy(update={"interests": 2})
    with pytest.raises(InputError, match="several interests cannot be exported"):
        export_query(another(tiny_run, user), tmp_path / "query")
    assert not (tmp_path / "query").exists()
