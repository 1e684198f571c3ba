"""An index on disk: versions, damage and strangers."""

import json
import shutil

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexing import index as index_module
from indexing.index import ItemIndex
from indexing.published import KIND
from indexing.vectors import unit
from indexing.versions import current_version, point_at
from indexing.writer import IndexWriter
from towers.artefact import artefact_writer, sha256_file
from towers.errors import ArtefactError, InputError

FILES = ["vectors.npy", "ids.parquet", "index.faiss"]


def make(count=60, seed=0, **options):
    vectors = unit(np.random.default_rng(seed).normal(size=(count, 8)))
    return ItemIndex.from_arrays([f"i{row}" for row in range(count)], vectors, **{"kind": "HNSW8", **options})


@pytest.fixture
def folder(tmp_path):
    make(space="abc").save(tmp_path / "index")
    return tmp_path / "index"


def vouch(version, **changes):
    """Rewrite the manifest so that it vouches for the files as they are now."""
    manifest = json.loads((version / "manifest.json").read_text())
    manifest.update(changes)
    for name, facts in manifest["files"].items():
        facts.update(bytes=(version / name).stat().st_size, sha256=sha256_file(version / name))
    (version / "manifest.json").write_text(json.dumps(manifest))
    point_at(version.parents[1], version.name)


def refused(folder, reason):
    with pytest.raises(ArtefactError, match=reason):
        ItemIndex.load(folder)


def test_the_folder_holds_what_its_manifest_says(folder):
    version = current_version(folder)
    assert (folder / "CURRENT").read_text() == f"000001 {sha256_file(version / 'manifest.json')}\n"
    assert version == folder / "versions" / "000001"
    assert {path.name for path in version.iterdir()} == {*FILES, "manifest.json"}
    manifest = json.loads((version / "manifest.json").read_text())
    facts = {"space": "abc", "count": 60, "dimension": 8, "duplicates": 0, "index_kind": "HNSW8"}
    assert manifest.items() >= {**facts, "kind": KIND, "parameters": "efSearch=128"}.items()
    assert not list(folder.rglob("*.part"))


def test_a_version_holds_what_the_design_says(tmp_path):
    version = make(kind="Flat").save(tmp_path)
    assert {path.name for path in version.iterdir()} == {"vectors.npy", "ids.parquet", "index.faiss", "manifest.json"}


def test_saving_again_writes_a_second_version_and_keeps_the_first(folder):
    assert make(count=70, seed=1).save(folder) == folder / "versions" / "000002"
    assert len(ItemIndex.load(folder)) == 70
    point_at(folder, "000001")
    assert len(ItemIndex.load(folder)) == 60
    assert make().save(folder).name == "000003"


def test_a_failed_save_leaves_the_current_version(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(index_module.approximate, "write", full)
    with pytest.raises(ArtefactError, match=r"cannot write .*No space left"):
        make(count=70).save(folder)
    assert len(ItemIndex.load(folder)) == 60
    assert [path.name for path in (folder / "versions").iterdir()] == ["000001"]


def test_a_version_that_was_never_pointed_at_is_stepped_over(folder):
    shutil.copytree(folder / "versions" / "000001", folder / "versions" / "000002")
    assert make().save(folder).name == "000003"


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_are_refused(folder, name):
    file = current_version(folder) / name
    content = file.read_bytes()
    for place in (0, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        refused(folder, f"{name} has changed")
    file.write_bytes(content[:-1])
    refused(folder, f"{name} has {len(content) - 1} bytes")
    file.unlink()
    refused(folder, f"lacks the file {name}")
    file.write_bytes(content)
    assert len(ItemIndex.load(folder)) == 60


@pytest.mark.parametrize("name", FILES)
def test_files_of_another_kind_are_refused_even_when_vouched_for(folder, name):
    version = current_version(folder)
    (version / name).write_bytes(b"something else entirely")
    vouch(version)
    refused(folder, r"damaged|not a readable FAISS index")


def test_parts_that_do_not_line_up_are_refused_even_when_vouched_for(folder, tmp_path):
    version = current_version(folder)
    other = make(count=59).save(tmp_path / "other")
    for name in FILES:
        kept = (version / name).read_bytes()
        (version / name).write_bytes((other / name).read_bytes())
        vouch(version)
        refused(folder, "do not line up")
        (version / name).write_bytes(kept)
    vouch(version, count=61)
    refused(folder, "do not line up")


def test_ids_in_another_order_are_refused_even_when_vouched_for(folder):
    version = current_version(folder)
    table = pq.read_table(version / "ids.parquet")
    pq.write_table(table.take(pa.array(range(59, -1, -1))), version / "ids.parquet")
    vouch(version)
    refused(folder, "the ids are not those")


def test_pickled_vectors_are_refused(folder):
    version = current_version(folder)
    np.save(version / "vectors.npy", np.array([{}], object), allow_pickle=True)
    vouch(version)
    refused(folder, "damaged: ValueError: Object arrays cannot be loaded")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "should name a version"),
        (b"../../etc", "should name a version"),
        (b"000001\n", "an index of an older format, without checksums of manifests: build it again"),
        (b"000009 " + b"0" * 64 + b"\n", "names version 000009"),
        (b"000001 " + b"0" * 64 + b"\n", "is not the one that .*CURRENT points at: it has changed"),
    ],
)
def test_a_damaged_current_is_refused(folder, content, reason):
    (folder / "CURRENT").write_bytes(content)
    refused(folder, reason)


def test_a_damaged_manifest_is_refused(folder):
    file = current_version(folder) / "manifest.json"
    manifest = json.loads(file.read_text())
    for missing in ("space", "ids", "count", "index_kind", "parameters", "files"):
        file.write_text(json.dumps({key: value for key, value in manifest.items() if key != missing}))
        point_at(folder, "000001")
        refused(folder, "damaged|lists no files")
    for change in ({"parameters": "nprobe=3"}, {"dimension": "8"}, {"space": None}):
        file.write_text(json.dumps(manifest | change))
        point_at(folder, "000001")
        with pytest.raises(ArtefactError):
            ItemIndex.load(folder, space="abc")
    file.write_text(json.dumps(manifest)[:-9])
    refused(folder, "not readable JSON")


def test_a_manifest_that_says_something_else_is_refused(folder):
    file = current_version(folder) / "manifest.json"
    file.write_text(file.read_text().replace("efSearch=128", "efSearch=1"))
    refused(folder, "manifest.json is not the one that .*CURRENT points at: it has changed")


def test_a_file_too_many_and_a_newer_format_are_refused(folder):
    version = current_version(folder)
    (version / "more.npy").write_bytes(b"")
    refused(folder, "holds a file that its manifest does not know: more.npy")
    (version / "more.npy").unlink()
    vouch(version, format=2)
    refused(folder, "has format 2, this version reads up to 1: upgrade twotower")


def test_attributes_are_kept_in_the_version(tmp_path):
    colours = pa.array(["red", "blue", "red"]).dictionary_encode()
    table = pa.table({"price": [1.5, 2.5, None], "colour": colours})
    ItemIndex.from_arrays([1, 2, 3], np.eye(3, dtype=np.float32), table).save(tmp_path)
    read = ItemIndex.load(tmp_path).attributes
    assert read.to_pydict() == {"price": [1.5, 2.5, None], "colour": ["red", "blue", "red"]}
    assert read.schema.field("colour").type == pa.large_string()


@pytest.mark.parametrize("name", ["attributes.parquet", "removed.parquet", "places.npy"])
def test_files_that_only_some_have_are_checked_too(tmp_path, name):
    with_all, other = tmp_path / "all", tmp_path / "other"
    for path, gone in ((with_all, ["i0", "i1"]), (other, ["i2"])):
        ids = [f"i{row}" for row in range(60 + len(gone))]
        vectors = unit(np.random.default_rng(1).normal(size=(len(ids), 8)))
        ItemIndex.from_arrays(ids, vectors, {"number": range(len(ids))}, kind="HNSW8").save(path)
        with IndexWriter(path) as writer:
            writer.remove(gone)
            writer.publish()
    version = current_version(with_all)
    (version / name).write_bytes((current_version(other) / name).read_bytes())
    refused(with_all, f"{name} has")
    if name == "places.npy":
        np.save(version / name, np.zeros(60, np.int64))
        vouch(version)
        refused(with_all, "not clear which of the 62 vectors")
    else:
        (version / name).write_bytes(b"something else")
        vouch(version)
        refused(with_all, "is damaged")


def test_what_is_not_an_index_is_refused(tmp_path):
    refused(tmp_path / "nothing", "expected an index at .*nothing")
    refused(tmp_path, "no file CURRENT")
    with artefact_writer(tmp_path / "versions" / "000001", "twotower/model", {}):
        pass
    point_at(tmp_path, "000001")
    refused(tmp_path, "is a 'twotower/model', expected a 'twotower/index'")


def test_a_strangers_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ArtefactError, match="left alone"):
        make().save(tmp_path)
    with pytest.raises(ArtefactError, match="is a file"):
        make().save(tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.rglob("*")] == ["thesis.tex"]


def test_a_file_beside_an_index_is_named_by_those_who_would_write(folder):
    (folder / "README").write_text("whose index this is")
    assert len(ItemIndex.load(folder)) == len(make())
    for write in (make().save, IndexWriter):
        with pytest.raises(ArtefactError, match="holds 'README', which is no part of an index: move it elsewhere"):
            write(folder)


@pytest.mark.parametrize("name", ["and", "or", "not"])
def test_attributes_that_filters_could_not_name_are_refused(name):
    with pytest.raises(InputError, match=f"attributes have a column '{name}', which filters could not name"):
        ItemIndex.from_arrays([1, 2], np.eye(2, dtype=np.float32), {"price": [1, 2], name: [1, 2]})


def test_an_index_is_tied_to_its_space(folder, tmp_path):
    assert ItemIndex.load(folder).space == ItemIndex.load(folder, space="abc").space == "abc"
    with pytest.raises(ArtefactError, match=r"built for another model: .* space 'abc', expected 'abd'"):
        ItemIndex.load(folder, space="abd")
    make().save(tmp_path / "own")
    with pytest.raises(ArtefactError, match="built for another model"):
        ItemIndex.load(tmp_path / "own", space="abc")


def test_the_faiss_file_is_an_ordinary_one(folder):
    index = faiss.read_index(str(current_version(folder) / "index.faiss"))
    assert (index.ntotal, index.d, index.metric_type) == (60, 8, faiss.METRIC_INNER_PRODUCT)
