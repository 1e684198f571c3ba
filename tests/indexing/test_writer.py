"""The life of an index: what comes, goes, is published and rolled back; what cannot be done changes nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from indexing.attributes import as_attributes
from indexing.exact import exact_search
from indexing.index import ItemIndex
from indexing.published import remember, write_version
from indexing.tune import tune
from indexing.vectors import unit
from indexing.versions import versions
from indexing.writer import IndexWriter, rollback
from towers.errors import ArtefactError, InputError

COUNT, DIMENSION = 400, 16
KINDS = {  # kind: recall@10 that it must reach after its changes
    "Flat": 1.0,
    "HNSW16": 0.98,
    "IVF8,Flat": 0.98,
    "IVF8,PQ8x4,RFlat": 0.95,
    "IVF8,PQ8x4fs,RFlat": 0.95,
    "IVF8,PQ8x4fsr,RFlat": 0.95,
    "SQ8": 0.9,
    "NSG16": 0.95,
}


def draw(count: int, seed: int) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, DIMENSION)))


VECTORS, QUERIES = draw(COUNT, 0), draw(60, 1)
NAMES = [f"i{n}" for n in range(COUNT)]


def numbers(values) -> dict[str, list[int]]:
    return {"number": list(values)}


def make(folder: Path, kind: str = "Flat", **options) -> Path:
    ItemIndex.from_arrays(NAMES, VECTORS, numbers(range(COUNT)), kind=kind, **options).save(folder)
    return folder


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def folder(tmp_path):
    return make(tmp_path / "index")


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "LOCK"}


# Every kind


def test_ids_and_scores_are_those_of_exact_search_after_a_busy_life(kind, tmp_path):
    plain = dict(zip(NAMES, VECTORS, strict=True))
    with IndexWriter(make(tmp_path / "index", kind)) as writer:
        for round_ in range(4):
            new = [f"n{round_}-{n}" for n in range(10)]
            old = [f"i{n}" for n in range(20 * round_, 20 * round_ + 12)]
            fresh = draw(20, 10 + round_)
            writer.add(new, fresh[:10], numbers(range(10)))
            writer.upsert(old[:10], fresh[10:], numbers(range(10)))
            writer.remove(old[10:])
            plain |= dict(zip(new + old[:10], fresh, strict=True))
            for one in old[10:]:
                del plain[one]
        assert len(writer) == len(plain) == COUNT + 40 - 8
        writer.publish()
        alive = writer.index
    loaded = ItemIndex.load(tmp_path / "index")
    rebuilt = kind in ("Flat", "NSG16")  # nothing to learn; cannot be added to
    assert alive.tombstones == loaded.tombstones == (0 if rebuilt else 48)
    assert set(loaded.ids.to_list()) == set(plain)
    for index in (alive, loaded):
        vectors = np.stack([plain[one] for one in index.ids.to_list()])
        np.testing.assert_array_equal(index.vectors, vectors)
        hits, exact = index.search(QUERIES, 10), exact_search(QUERIES, vectors, len(plain))
        for query in range(len(QUERIES)):
            score = dict(zip(exact.rows[query], exact.scores[query], strict=True))
            assert [score[row] for row in hits.rows[query]] == list(hits.scores[query])
            assert len(set(hits.rows[query])) == 10
        found = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(hits.rows, exact.rows[:, :10], strict=True)])
        assert found >= KINDS[kind]
        if kind == "Flat":
            np.testing.assert_array_equal(hits.rows, exact.rows[:, :10])
        everything = index.search(QUERIES[:2], len(plain) + 5)
        np.testing.assert_array_equal(everything.rows[:, : len(plain)], exact.rows[:2])


def test_where_all_neighbours_are_tombstones_the_next_are_found(kind, tmp_path):
    query = VECTORS[:1]
    order = exact_search(query, VECTORS, COUNT).rows[0]
    with IndexWriter(make(tmp_path / "index", kind)) as writer:
        writer.remove([NAMES[row] for row in order[:60]])
        index = writer.index
        assert index.ids.take(index.search(query, 3).rows[0])[0] == NAMES[order[60]]
        left = index.ids.take(index.search(query, COUNT).rows[0])
        assert [one for one in left if one is not None] == [NAMES[row] for row in order[60:]]


def test_compaction_leaves_ids_vectors_and_parameters_and_no_tombstone(kind, tmp_path):
    with IndexWriter(make(tmp_path / "index", kind)) as writer:
        writer.remove(NAMES[:30])
        before = writer.index
        writer.compact()
        after = writer.index
        assert after.tombstones == 0
        assert after.ids == before.ids
        assert (after.parameters, after.kind) == (before.parameters, kind)
        np.testing.assert_array_equal(after.vectors, before.vectors)
        assert after.attributes == before.attributes
        assert after.recall(QUERIES, 10) >= KINDS[kind] - 0.02
        version = writer.publish()
    assert ItemIndex.load(tmp_path / "index").version == version == "000002"


def test_a_kind_that_faiss_cannot_copy_is_built_anew(tmp_path):
    with IndexWriter(make(tmp_path / "index", "RaBitQfs,RFlat")) as writer:
        writer.remove(["i0"])
        writer.publish()
        index = writer.index
    assert (len(index), index.tombstones, "i0" in index) == (COUNT - 1, 0, False)
    assert index.search(VECTORS[1:2], 1).rows[0, 0] == index.ids.rows(["i1"])[0]


def test_a_graph_that_needs_more_than_are_left_goes_on_with_those_that_are_gone(tmp_path):
    folder = make(tmp_path / "index", "NSG16")
    with IndexWriter(folder) as writer:
        writer.remove(NAMES[: COUNT - 50])
        writer.publish()
        with pytest.raises(InputError, match="50 vectors"):
            writer.compact()
        removed = ItemIndex.load(folder)
        assert (len(removed), removed.tombstones) == (50, COUNT - 50)
        writer.add(["new"], QUERIES[:1], numbers([0]))
        writer.upsert([NAMES[-1]], QUERIES[1:2], numbers([0]))
        writer.publish()
    with IndexWriter(folder) as writer:
        writer.add([f"more {n}" for n in range(58)], QUERIES[2:], numbers(range(58)))
        small = ItemIndex.load(folder)
        writer.publish()
    grown = ItemIndex.load(folder)
    assert (len(small), small.tombstones) == (51, COUNT - 49)
    assert (len(grown), grown.tombstones) == (109, 0)
    for index in (removed, small, grown):
        exact = exact_search(QUERIES, index.vectors, 5)
        hits = index.search(QUERIES, 5)
        np.testing.assert_array_equal(hits.scores[:, 0], exact.scores[:, 0])
        assert index.recall(QUERIES, 5) >= 0.95
    assert grown.ids.take(grown.search(QUERIES[:3], 1).rows[:, 0]) == ["new", NAMES[-1], "more 0"]


def test_compaction_keeps_the_parameters_that_were_never_named(tmp_path):
    index = ItemIndex.from_arrays(range(COUNT), VECTORS, kind="IVF8,PQ4x4,RFlat")
    index.set_parameters("nprobe=8")
    assert index.parameters == "k_factor_rf=16,nprobe=8"
    index.save(tmp_path)
    with IndexWriter(tmp_path) as writer:
        writer.compact()
        assert writer.index.parameters == index.parameters
        assert writer.index.faiss.k_factor == index.faiss.k_factor == 16
        assert writer.index.recall(VECTORS[:50], 10) >= index.recall(VECTORS[:50], 10) - 0.005


@pytest.mark.parametrize("kind", ["Flat", "HNSW16", "IVF8,Flat", "IVF8,PQ8x4,RFlat", "SQ8", "NSG16", "RaBitQfs"])
def test_all_may_go_and_come_again(kind, tmp_path):
    with IndexWriter(make(tmp_path / "index", kind)) as writer:
        writer.remove(NAMES)
        assert len(writer) == 0
        writer.publish()
        assert (writer.index.search(QUERIES[:2], 3).rows == -1).all()
    with IndexWriter(tmp_path / "index") as writer:
        writer.add(NAMES[:3], VECTORS[:3], numbers(range(3)))
        writer.publish()
    index = ItemIndex.load(tmp_path / "index")
    assert index.ids.take(index.search(VECTORS[1:2], 1).rows[0]) == ["i1"]


def test_a_snapshot_stays_as_it_was(kind, tmp_path):
    with IndexWriter(make(tmp_path / "index", kind)) as writer:
        before = writer.index
        first = before.search(QUERIES, 10)
        writer.remove(NAMES[:100])
        writer.add(["new"], QUERIES[:1], numbers([7]))
        after = writer.index
        assert after.ids.take(after.search(QUERIES[:1], 1).rows[0]) == ["new"]
        again = before.search(QUERIES, 10)
    np.testing.assert_array_equal(again.rows, first.rows)
    np.testing.assert_array_equal(again.scores, first.scores)


# Items


def test_get_iterate_and_contains(folder):
    with IndexWriter(folder) as writer:
        writer.upsert(["i1", "new"], VECTORS[:2], numbers([5, 6]))
        writer.remove(["i0"])
        assert "new" in writer
        assert "i0" not in writer
        index = writer.index
    item = index.get("new")
    assert (item.id, item.attributes) == ("new", {"number": 6})
    np.testing.assert_array_equal(item.vector, VECTORS[1])
    assert index.get("i0") is None
    assert "i0" not in index
    assert "i1" in index
    assert [item.id for item in index] == [*NAMES[2:], "i1", "new"]
    assert [item.attributes["number"] for item in index] == [*range(2, COUNT), 5, 6]


def test_integer_ids_are_found_as_text_too_and_stay(tmp_path):
    ItemIndex.from_arrays([2**62, -5, 7], np.eye(3, dtype=np.float32)).save(tmp_path)
    with IndexWriter(tmp_path) as writer:
        writer.remove(["-5"])
        with pytest.raises(InputError, match="ids of this index are int64, got 'x'"):
            writer.remove(["x"])
        writer.upsert(["7"], np.eye(3, dtype=np.float32)[:1])
        writer.publish()
    assert ItemIndex.load(tmp_path).ids.to_list() == [2**62, 7]


def test_removed_items_keep_their_last_vectors_until_they_come_again(folder):
    with IndexWriter(folder) as writer:
        writer.upsert(["i1"], VECTORS[9:10], numbers([1]))
        writer.remove(["i0", "i1"])
        writer.compact()
        writer.publish()
        writer.remove(["i2"])
        writer.publish()
    removed = ItemIndex.load(folder).removed
    assert removed.ids.to_list() == ["i0", "i1", "i2"]
    np.testing.assert_array_equal(removed.vectors, VECTORS[[0, 9, 2]])
    with IndexWriter(folder) as writer:
        writer.add(["i1"], VECTORS[1:2], numbers([1]))
        writer.publish()
    assert ItemIndex.load(folder).removed.ids.to_list() == ["i0", "i2"]


# What was acknowledged


def test_what_was_acknowledged_is_there_without_publishing_but_readers_do_not_see_it(folder):
    with IndexWriter(folder) as writer:
        writer.add(["new"], QUERIES[:1], numbers([7]))
        writer.remove(["i3"])
    assert "new" not in ItemIndex.load(folder)
    with IndexWriter(folder) as writer:
        assert (len(writer), writer.waiting) == (COUNT, 2)
        assert writer.index.get("new").attributes == {"number": 7}
        assert "i3" not in writer


def test_a_crash_before_or_after_the_flip_changes_nothing(folder, monkeypatch):
    from indexing import versions as module

    with IndexWriter(folder) as writer:
        writer.add(["new"], QUERIES[:1], numbers([7]))
        journal = shutil.copytree(folder / "journal", folder.with_name("journal"))

        def killed(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(module, "point_at", killed)
        with pytest.raises(KeyboardInterrupt):
            writer.publish()
        monkeypatch.undo()
        assert writer.waiting == 1
    assert versions(folder) == ["000001", "000002"]
    with IndexWriter(folder) as writer:
        assert (writer.version, len(writer)) == ("000001", COUNT + 1)
        assert writer.publish() == "000003"
    shutil.copytree(journal, folder / "journal", dirs_exist_ok=True)  # as if it had been killed before it was dropped
    with IndexWriter(folder) as writer:
        assert (len(writer), writer.waiting) == (COUNT + 1, 0)
        assert writer.rollback() == "000001"
        assert len(writer) == COUNT
    assert not list((folder / "journal").iterdir())


def test_what_a_killed_writer_left_half_done_is_swept_away(folder):
    (folder / "versions" / ".000002.ab.part").mkdir()
    (folder / ".CURRENT.ab.part").write_text("x")
    (folder / "journal" / "000001").mkdir(parents=True)
    (folder / "journal" / "000001" / ".00000001.arrow.ab.part").write_text("x")
    with IndexWriter(folder) as writer:
        assert writer.waiting == 0
    assert not list(folder.rglob("*.part"))


@pytest.mark.parametrize("how", ["flip", "cut", "gone", "swapped", "of another version"])
def test_a_damaged_journal_is_refused(folder, how):
    with IndexWriter(folder) as writer:
        for n in range(3):
            writer.add([f"new{n}"], QUERIES[n : n + 1], numbers([n]))
    first, second, _ = sorted((folder / "journal" / "000001").iterdir())
    content = bytearray(second.read_bytes())
    if how == "flip":
        content[-3] ^= 4
        second.write_bytes(content)
    elif how == "cut":
        second.write_bytes(content[:-1])
    elif how == "gone":
        second.unlink()
    elif how == "swapped":
        second.write_bytes(first.read_bytes())
        first.write_bytes(content)
    else:
        write_version(ItemIndex.load(folder), folder)
        (folder / "journal" / "000001").rename(folder / "journal" / "000002")
    with pytest.raises(ArtefactError, match="lacks 00000002.arrow" if how == "gone" else "has changed since"):
        IndexWriter(folder)


# Versions


def test_a_reader_goes_on_with_its_version_until_it_refreshes(folder):
    reader = ItemIndex.load(folder)
    assert reader.refresh() is reader
    with IndexWriter(folder) as writer:
        writer.remove(["i0"])
        assert reader.refresh() is reader
        assert writer.publish() == "000002"
        assert "i0" in reader
        newer = reader.refresh()
        assert "i0" not in newer
        assert newer.version == "000002"
        writer.rollback()
        assert "i0" in newer.refresh()
    with pytest.raises(InputError, match="not loaded from a folder"):
        ItemIndex.from_arrays([1, 2], np.eye(2, dtype=np.float32)).refresh()


def test_versions_are_pruned_but_for_the_newest_and_the_one_before(folder):
    with IndexWriter(folder) as writer:
        for n in range(6):
            writer.remove([f"i{n}"])
            writer.publish(keep=2)
        assert versions(folder) == ["000006", "000007"]
        assert writer.rollback() == "000006"
        writer.remove(["i100"])
        assert writer.publish(keep=1) == "000008"
        assert versions(folder) == ["000006", "000008"]
        with pytest.raises(InputError, match="keep must be at least 1"):
            writer.publish(keep=0)


def test_roll_back_and_forth(folder):
    with IndexWriter(folder) as writer:
        with pytest.raises(InputError, match="is the first version"):
            writer.rollback()
        writer.remove(["i0"])
        writer.publish()
        writer.remove(["i1"])
        with pytest.raises(InputError, match="1 batches are not published yet"):
            writer.rollback()
        assert len(writer) == COUNT - 2
        assert writer.rollback(discard=True) == "000001"
        assert (len(writer), writer.waiting) == (COUNT, 0)
        assert writer.rollback("000002") == "000002"
        assert len(writer) == COUNT - 1
        with pytest.raises(InputError, match="no version '000009' to go back to; it has 000001, 000002"):
            writer.rollback("000009")


def test_roll_back_from_a_damaged_version(folder):
    with IndexWriter(folder) as writer:
        writer.remove(["i0"])
        writer.publish()
    (folder / "versions" / "000002" / "vectors.npy").write_bytes(b"")
    with pytest.raises(ArtefactError):
        IndexWriter(folder)
    assert rollback(folder) == "000001"
    assert len(ItemIndex.load(folder)) == COUNT


def test_an_index_of_an_older_version_does_not_replace_newer_changes(folder):
    stale, tuned = ItemIndex.load(folder), tune(ItemIndex.load(folder), QUERIES, kinds=["Flat"]).index
    with IndexWriter(folder) as writer:
        writer.remove(["i1"])
        writer.publish()
    for index in (stale, tuned):
        with pytest.raises(ArtefactError, match=r"made from version 000001 .* is 000002 now .* would be lost"):
            index.save(folder)
    assert "i1" not in ItemIndex.load(folder)
    fresh = stale.refresh()
    fresh.save(folder)
    fresh.save(folder)  # it is the version that it has just become
    assert fresh.version == ItemIndex.load(folder).version == "000004"


def test_saving_again_and_again_keeps_what_publishing_keeps(folder):
    left = folder / "versions" / ".000002.0123.part"
    left.mkdir()
    for _ in range(5):
        make(folder)
    assert versions(folder) == ["000004", "000005", "000006"]
    assert not left.exists()
    ItemIndex.from_arrays(NAMES, VECTORS).save(folder, keep=1)
    assert versions(folder) == ["000006", "000007"]  # and the one that it was made from
    with pytest.raises(InputError, match="keep must be at least 1 version, got 0"):
        ItemIndex.from_arrays(NAMES, VECTORS).save(folder, keep=0)
    assert versions(folder) == ["000006", "000007"]


def test_an_index_built_anew_remembers_what_it_lacks(tmp_path):
    make(tmp_path, space="s")
    with IndexWriter(tmp_path) as writer:
        writer.remove(["i0"])
        writer.publish()
    for first, removed in ((2, ["i0", "i1"]), (3, ["i0", "i1", "i2"]), (1, ["i0"])):
        anew = ItemIndex.from_arrays(NAMES[first:], VECTORS[first:], space="s")
        remember(anew, tmp_path)
        anew.save(tmp_path)
        index = ItemIndex.load(tmp_path)
        assert index.removed.ids.to_list() == removed
        np.testing.assert_array_equal(index.removed.vectors, VECTORS[: len(removed)])
    for space in ("", "other"):
        anew = ItemIndex.from_arrays(NAMES[5:], VECTORS[5:], space=space)
        remember(anew, tmp_path)
        assert len(anew.removed) == 0
    damaged = tmp_path / "versions" / ItemIndex.load(tmp_path).version / "vectors.npy"
    damaged.write_bytes(b"x" + damaged.read_bytes()[1:])
    with pytest.warns(UserWarning, match=r"what was removed is forgotten, since .* cannot be read"):
        remember(ItemIndex.from_arrays(NAMES, VECTORS, space="s"), tmp_path)


def test_nothing_to_publish_writes_nothing(folder):
    before = files(folder)
    with IndexWriter(folder) as writer:
        assert writer.publish() == "000001"
    assert files(folder) == before


def test_worn_indexes_are_compacted_when_they_are_published(tmp_path):
    with IndexWriter(make(tmp_path / "index", "HNSW16")) as writer:
        writer.remove(NAMES[:40])
        writer.publish()
        assert writer.index.tombstones == 40
        writer.remove(NAMES[40:120])
        writer.publish()
        assert writer.index.tombstones == 0
    with IndexWriter(make(tmp_path / "trained", "IVF8,Flat")) as writer:
        writer.add([f"new{n}" for n in range(COUNT + 1)], draw(COUNT + 1, 8), numbers(range(COUNT + 1)))
        writer.publish()
        assert writer.index.built == 2 * COUNT + 1


def test_an_index_saved_over_changes_that_wait_is_refused(folder):
    with IndexWriter(folder) as writer:
        writer.remove(["i0"])
        with pytest.raises(ArtefactError, match="has a writer already"):
            ItemIndex.load(folder).save(folder)
    with pytest.raises(ArtefactError, match="has 1 changes that are not published"):
        ItemIndex.load(folder).save(folder)


# Writers


def test_two_writers(folder):
    with IndexWriter(folder) as writer:
        with pytest.raises(ArtefactError, match=rf"has a writer already \(process {os.getpid()} on "):
            IndexWriter(folder)
        with pytest.raises(ArtefactError, match="has a writer already"):
            rollback(folder)
    with pytest.raises(InputError, match="is closed"):
        writer.remove(["i0"])
    with IndexWriter(folder) as writer:
        writer.remove(["i0"])


def test_a_forked_process_neither_writes_nor_keeps_the_lock(folder):
    writer = IndexWriter(folder)
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        try:
            writer.remove(["i1"])
            os.write(ready[1], b"wrote")
        except InputError:
            os.write(ready[1], b"refused")
        os.read(done[0], 1)
        os._exit(0)
    try:
        assert os.read(ready[0], 10) == b"refused"
        writer.remove(["i2"])
        with pytest.raises(ArtefactError, match="has a writer already"):
            IndexWriter(folder)
        writer.close()
        with IndexWriter(folder) as again:  # though the child lives
            assert ("i1" in again, "i2" in again) == (True, False)
    finally:
        os.write(done[1], b"x")
        os.waitpid(child, 0)


def test_the_lock_of_a_killed_writer_is_free(folder):
    code = (
        "import sys, time; from indexing.writer import IndexWriter; "
        f"w = IndexWriter({str(folder)!r}); w.remove(['i5']); print('open', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    with pytest.raises(ArtefactError, match=f"process {process.pid} on"):
        IndexWriter(folder)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with IndexWriter(folder) as writer:
        assert "i5" not in writer


def test_what_is_no_index_is_left_alone(tmp_path):
    with pytest.raises(ArtefactError, match="expected an index at"):
        IndexWriter(tmp_path / "nothing")
    with pytest.raises(ArtefactError, match="expected an index at"):
        rollback(tmp_path)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ArtefactError, match="is not an index; it is left alone"):
        IndexWriter(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_written(folder, monkeypatch):
    from indexing import lock

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    before = files(folder)
    monkeypatch.setattr(lock.os, "open", refused)
    with pytest.raises(ArtefactError, match=r"cannot write .*index: Permission denied"):
        IndexWriter(folder)
    assert files(folder) == before


# Bad input


NAN = np.full((2, DIMENSION), np.nan, np.float32)


@pytest.mark.parametrize(
    ("ids", "vectors", "attributes", "reason"),
    [
        (["a", "b"], QUERIES[:2, :8].copy(), numbers([1, 2]), "8 dimensions, expected 16"),
        (["a", "b"], QUERIES[:2].astype(float), numbers([1, 2]), "must be a float32 array, got float64"),
        (["a", "b"], QUERIES[:2] * np.float32(2), numbers([1, 2]), "2 of 2 vectors are not of length one"),
        (["a", "b"], NAN, numbers([1, 2]), "not finite"),
        (["a", "b"], QUERIES[:3], numbers([1, 2]), "2 ids for 3 vectors"),
        (["a", "a"], QUERIES[:2], numbers([1, 2]), "1 duplicates among 2"),
        (["a", None], QUERIES[:2], numbers([1, 2]), "1 of 2 ids are missing"),
        (["a", 1], QUERIES[:2], numbers([1, 2]), "all strings or all integers"),
        ([1.5, 2.5], QUERIES[:2], numbers([1, 2]), "strings or .*integers, got float"),
        ([], QUERIES[:0], numbers([]), "the batch is empty"),
        (["a", "b"], QUERIES[:2], None, "has attributes, and every item needs them; got none"),
        (["a", "b"], QUERIES[:2], numbers([1]), "1 rows for 2 items"),
        (["a", "b"], QUERIES[:2], {"colour": [1, 2]}, "the columns 'colour', this index has 'number'"),
        (["a", "b"], QUERIES[:2], numbers(["x", "y"]), r"of the index's types \(number: int64\)"),
        (["a", "b"], QUERIES[:2], numbers([1.5, 2]), r"of the index's types \(number: int64\): Float value 1.5"),
        (["a", "b"], QUERIES[:2], 5, "a table or lists by column name, got int"),
    ],
)
@pytest.mark.parametrize("method", ["add", "upsert"])
def test_batches_that_cannot_be_taken_change_nothing(folder, method, ids, vectors, attributes, reason):
    with IndexWriter(folder) as writer:
        writer.remove(["i0"])
        before = files(folder)
        with pytest.raises(InputError, match=reason):
            getattr(writer, method)(ids, vectors, attributes)
        assert files(folder) == before
        assert (len(writer), writer.waiting) == (COUNT - 1, 1)
        assert writer.index.ids.to_list() == NAMES[1:]


def test_of_several_attributes_the_unfit_one_is_named():
    schema = pa.schema({"title": pa.large_string(), "year": pa.int64()})
    with pytest.raises(InputError, match=r"types \(year: int64\): Failed to parse string: 'nineteen'"):
        as_attributes({"title": ["Heat"], "year": ["nineteen"]}, 1, schema)


def test_other_refusals_change_nothing(folder):
    with IndexWriter(folder) as writer:
        writer.remove(NAMES[-1:])
        before = files(folder)
        for call, reason in [
            (
                lambda: writer.add(["x", "i7", "i8"], QUERIES[:3], numbers([1, 2, 3])),
                r"2 of 3 items \('i7', 'i8'\) are in",
            ),
            (lambda: writer.remove(["i1", "x"]), r"1 of 2 items \('x'\) is not in the index, so nothing was removed"),
            (lambda: writer.remove(["i1", "i1"]), "1 duplicates among 2"),
            (lambda: writer.remove([]), "the batch is empty"),
            (lambda: writer.remove("i1"), "expected a list of ids"),
            (lambda: writer.add(["x"], QUERIES[:1], numbers([1]), space="abc"), "of the space 'abc', the index of ''"),
            (lambda: writer.index.search(QUERIES, 0), "k must be at least 1"),
            (lambda: writer.publish(keep="a"), "keep must be a whole number of versions, got 'a'"),
            (lambda: writer.publish(keep=1.5), "keep must be a whole number of versions, got 1.5"),
        ]:
            with pytest.raises(InputError, match=reason):
                call()
        assert files(folder) == before
        assert writer.index.ids.to_list() == NAMES[:-1]


def test_vectors_of_two_spaces_never_mix(tmp_path):
    with IndexWriter(make(tmp_path / "index", space="model one")) as writer:
        for space in ("", "model two"):
            with pytest.raises(InputError, match="two spaces cannot be compared"):
                writer.upsert(["i0"], QUERIES[:1], numbers([1]), space=space)
        writer.upsert(["i0"], QUERIES[:1], numbers([1]), space="model one")


def test_attributes_where_there_are_none_are_refused(tmp_path):
    ItemIndex.from_arrays([1, 2], np.eye(2, dtype=np.float32)).save(tmp_path)
    with IndexWriter(tmp_path) as writer, pytest.raises(InputError, match="this index has no attributes; got some"):
        writer.upsert([1], np.eye(2, dtype=np.float32)[:1], numbers([1]))


def test_a_batch_is_copied(folder):
    vectors = QUERIES[:1].copy()
    with IndexWriter(folder) as writer:
        writer.add(["new"], vectors, numbers([1]))
        vectors[:] = 0
        np.testing.assert_array_equal(writer.index.get("new").vector, QUERIES[0])


def test_a_disk_that_is_full_changes_nothing(folder, monkeypatch):
    from indexing import journal, storage

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with IndexWriter(folder) as writer:
        writer.remove(["i0"])
        before = files(folder)
        monkeypatch.setattr(journal.Path, "write_bytes", full)
        with pytest.raises(ArtefactError, match="No space left"):
            writer.add(["new"], QUERIES[:1], numbers([1]))
        monkeypatch.undo()
        monkeypatch.setattr(storage.pq, "write_table", full)
        with pytest.raises(ArtefactError, match="No space left"):
            writer.publish()
        monkeypatch.undo()
        assert files(folder) == before
        assert (len(writer), writer.waiting, writer.version) == (COUNT - 1, 1, "000001")
        writer.add(["new"], QUERIES[:1], numbers([1]))
        assert writer.publish() == "000002"
    assert "new" in ItemIndex.load(folder)
