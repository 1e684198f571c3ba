"""Building an index shard by shard: in one go, after a kill, and on a Ray cluster the same bits come out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from indexing.build import build_index
from indexing.index import ItemIndex
from indexing.lock import Lock
from towers.catalog import Catalog
from towers.embed import VectorCache
from towers.errors import ArtefactError, InputError
from towers.model import TwoTower


class Killed(BaseException):
    """What no `except Exception` sees."""


def built(run: Any, folder: Path, **options: Any) -> ItemIndex:
    """An index of the small world in shards of seven items, over a cache of its own."""
    options = {"shard": 7, "progress": False, "cache": VectorCache(folder / "cache"), "out": folder / "index"} | options
    return build_index(options.pop("model", run.model_folder), options.pop("catalog", run.catalog), **options)


def same(one: ItemIndex, other: ItemIndex) -> bool:
    return one.ids == other.ids and one.vectors.tobytes() == other.vectors.tobytes()


def embedded(monkeypatch: pytest.MonkeyPatch, upto: int | None = None) -> list[int]:
    """Sizes of the catalogs that are embedded from now on; the process "dies" before the one after `upto`."""
    sizes: list[int] = []
    whole = TwoTower.embed_items

    def counting(self: TwoTower, catalog: Catalog, **options: Any) -> np.ndarray:
        if len(sizes) == upto:
            raise Killed
        sizes.append(len(catalog))
        return whole(self, catalog, **options)

    monkeypatch.setattr(TwoTower, "embed_items", counting)
    return sizes


def test_shard_by_shard_gives_the_items_and_vectors_of_the_model(tiny_run: Any, tmp_path: Path) -> None:
    index = built(tiny_run, tmp_path)
    assert index.ids == tiny_run.catalog.ids
    np.testing.assert_allclose(index.vectors, tiny_run.index.vectors, atol=1e-6)
    assert same(ItemIndex.load(tmp_path / "index"), index)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "index"]  # no working folder


def test_a_path_is_no_catalog() -> None:
    with pytest.raises(InputError, match=r"expected a Catalog, got str; Catalog\.read makes one"):
        build_index("runs/q", "clean.csv")  # type: ignore[arg-type]


def test_a_killed_build_goes_on_at_the_shard_and_ends_with_the_same_bits(
    tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = built(tiny_run, tmp_path / "whole")
    with monkeypatch.context() as patch:
        embedded(patch, upto=3)
        with pytest.raises(Killed):
            built(tiny_run, tmp_path / "killed")
    assert not (tmp_path / "killed" / "index").exists()
    sizes = embedded(monkeypatch)
    assert same(built(tiny_run, tmp_path / "killed"), whole)
    assert sizes == [7, 7, 5]  # of 40 items, 21 were done


def test_what_is_cached_while_it_is_dead_does_not_change_the_bits(
    tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = built(tiny_run, tmp_path / "whole")
    with monkeypatch.context() as patch:
        embedded(patch, upto=2)
        with pytest.raises(Killed):
            built(tiny_run, tmp_path / "killed")
    cache = VectorCache(tmp_path / "killed" / "cache")
    before = len(cache.files())
    tiny_run.model.embed_items(tiny_run.catalog, cache=cache)  # in other company, so in other bits
    assert len(cache.files()) > before
    assert same(built(tiny_run, tmp_path / "killed"), whole)


def test_a_damaged_shard_is_made_again(tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = built(tiny_run, tmp_path / "whole")
    with monkeypatch.context() as patch:
        embedded(patch, upto=4)
        with pytest.raises(Killed):
            built(tiny_run, tmp_path / "torn")
    path = tmp_path / "torn" / "index.building" / "00000001.shard"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    sizes = embedded(monkeypatch)
    assert same(built(tiny_run, tmp_path / "torn"), whole)
    assert sizes == [7, 7, 5]


def test_only_shards_with_changed_items_are_made_again(
    tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        embedded(patch, upto=5)
        with pytest.raises(Killed):
            built(tiny_run, tmp_path)
    frame = pl.DataFrame(tiny_run.catalog.table)
    title = pl.when(pl.col("item_id") == "m10").then(pl.lit("violin at night")).otherwise(pl.col("title"))
    changed = Catalog.read(frame.with_columns(title.alias("title")))
    sizes = embedded(monkeypatch)
    index = built(tiny_run, tmp_path, catalog=changed)
    assert sizes == [7, 5]  # the shard of m10, and the one that was not done
    wanted = tiny_run.model.embed_items(changed, cache=VectorCache(tmp_path / "fresh"))
    np.testing.assert_allclose(index.vectors, wanted, atol=1e-6)


def test_another_model_or_size_of_shard_begins_anew(
    tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        embedded(patch, upto=5)
        with pytest.raises(Killed):
            built(tiny_run, tmp_path)
    sizes = embedded(monkeypatch)
    built(tiny_run, tmp_path, shard=20)
    assert sizes == [20, 20]


def test_contents_that_were_embedded_before_are_not_embedded_again(
    tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = built(tiny_run, tmp_path)
    files = VectorCache(tmp_path / "cache").files()
    again = built(tiny_run, tmp_path, shard=13)
    np.testing.assert_allclose(again.vectors, index.vectors, atol=1e-6)  # other shards, other last bits
    assert VectorCache(tmp_path / "cache").files() == files
    assert ItemIndex.load(tmp_path / "index").version == "000002"


def test_two_builds_of_one_index_and_what_cannot_be_built_are_refused_before_any_embedding(
    tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = embedded(monkeypatch)
    with Lock(tmp_path / "index.building"), pytest.raises(ArtefactError, match="has a writer already"):
        built(tiny_run, tmp_path)
    with pytest.raises(InputError, match="FAISS refuses an index of kind 'nonsense'"):
        built(tiny_run, tmp_path, kind="nonsense")
    with pytest.raises(InputError, match="beyond memory go kinds with plain inverted lists"):
        built(tiny_run, tmp_path, kind="HNSW32", mmap=True)
    with pytest.raises(InputError, match="workers are those of a Ray cluster: ask for one, with ray"):
        build_index(tiny_run.model, tiny_run.catalog, workers=2)
    with pytest.raises(InputError, match="say in which folder"):
        built(tiny_run, tmp_path, out=None, mmap=True)
    with pytest.raises(InputError, match="at least 1 item"):
        built(tiny_run, tmp_path, shard=0)
    table = pl.from_arrow(tiny_run.catalog.table)
    with pytest.raises(InputError, match="a column 'not', which filters could not name"):
        build_index(tiny_run.model, Catalog.read(table.with_columns(pl.lit(1).alias("not"))), progress=False)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(ArtefactError, match="is not an index"):
        built(tiny_run, tmp_path, out=tmp_path / "notes")
    assert sizes == []


def test_a_build_without_an_item_keeps_its_vector_for_histories(tiny_run: Any, tmp_path: Path) -> None:
    whole = build_index(tiny_run.model, tiny_run.catalog, out=tmp_path / "index", progress=False)
    build_index(tiny_run.model, tiny_run.catalog.select(np.arange(2, 40)), out=tmp_path / "index", progress=False)
    index = ItemIndex.load(tmp_path / "index")
    assert index.removed.ids.to_list() == whole.ids.to_list()[:2]
    np.testing.assert_array_equal(index.removed.vectors, whole.vectors[:2])


def test_items_without_a_vector_are_set_aside_wherever_they_stand(tiny_run: Any, tmp_path: Path) -> None:
    items = pl.DataFrame({"item_id": ["a", "b", "c", "d"], "title": ["piano", None, "violin", None]})
    catalog = Catalog.read(items.with_columns(topic=pl.lit(None, pl.String)))
    for mmap in (False, True):
        options = {"kind": "IVF1,Flat", "mmap": True} if mmap else {}
        with pytest.warns(UserWarning, match="2 of 4 items have neither .* set aside: 'b', 'd'"):
            index = built(tiny_run, tmp_path / str(mmap), catalog=catalog, shard=1, **options)
        assert index.ids.to_list() == ["a", "c"]
        np.testing.assert_allclose(np.linalg.norm(index.vectors, axis=1), 1, atol=1e-5)


def test_with_its_vectors_in_files_it_finds_the_same(tiny_run: Any, tmp_path: Path) -> None:
    plain = built(tiny_run, tmp_path / "plain", kind="IVF2,Flat")
    mapped = built(tiny_run, tmp_path / "mapped", kind="IVF2,Flat", mmap=True)
    assert mapped.mmap
    assert same(mapped, plain)
    queries = np.array(plain.vectors[:10])
    one, other = plain.search(queries, 5), mapped.search(queries, 5)
    np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.scores, other.scores)
    assert mapped.attributes.equals(plain.attributes)
    assert not (tmp_path / "mapped" / "index.building").exists()
