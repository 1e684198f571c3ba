"""PYTHON benchmarks/peers/ann_worker.py LIBRARY [KIND]

One approximate index of one library, driven line by line: JSON requests on standard input, JSON answers on standard
output. Times are taken here, around the library's own call, so that what drives it does not count.

    {"do": "build", "vectors": "v.npy", "keep": "folder"}        build, or read again what is kept in the folder
    {"do": "search", "queries": "q.npy", "k": 10, "setting": [64], "threads": 1, "alone": false}
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SEED = 0
TURNS = 3  # a search each: the first finds what it needs, threads too, where the contender before it left it
CONSTRUCTION = 100  # candidates that graphs are built with


class Contender:
    """What the worker asks of a library.

    Class attributes:
        settings: grids of search parameters; the last one of a setting goes from fast to thorough.
    """

    kind: str
    largest = 1_000

    def settings(self) -> list[list[Any]]:
        """What is tried for the parameters before the last, which is a whole number from 1 to `most`."""
        return [[]]

    def most(self) -> int:
        """The largest last parameter."""
        return self.largest

    def build(self, vectors: np.ndarray) -> None:
        """Index float32 ``(N, D)``, in one thread."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write the index into this folder."""
        raise NotImplementedError

    def load(self, folder: Path, vectors: np.ndarray) -> None:
        """Read it again."""
        raise NotImplementedError

    def prepare(self, setting: list[Any], threads: int) -> None:
        """Search so from now on."""
        raise NotImplementedError

    def search(self, queries: np.ndarray, k: int) -> Any:
        """Rows near float32 ``(B, D)``, ``(B, k)``."""
        raise NotImplementedError

    def search_one(self, query: np.ndarray, k: int) -> Any:
        """Rows near float32 ``(D,)``."""
        return self.search(query[None], k)


class Hnswlib(Contender):
    """hnswlib; ef."""

    def build(self, vectors: np.ndarray) -> None:
        self._new(vectors.shape[1])
        self.index.init_index(max_elements=len(vectors), ef_construction=CONSTRUCTION, M=16, random_seed=SEED)
        self.index.add_items(vectors, num_threads=1)

    def _new(self, dimension: int) -> None:
        import hnswlib

        self.index = hnswlib.Index("ip", dimension)

    def save(self, folder: Path) -> None:
        self.index.save_index(str(folder / "index"))

    def load(self, folder: Path, vectors: np.ndarray) -> None:
        self._new(vectors.shape[1])
        self.index.load_index(str(folder / "index"))

    def prepare(self, setting: list[Any], threads: int) -> None:
        self.index.set_ef(max(10, setting[-1]))
        self.index.set_num_threads(threads)

    def search(self, queries: np.ndarray, k: int) -> Any:
        return self.index.knn_query(queries, k)[0]


class Usearch(Contender):
    """USearch in float32 or what `kind` says; expansion_search."""

    def _new(self, dimension: int) -> None:
        from usearch.index import Index

        self.index = Index(
            ndim=dimension, metric="ip", dtype=self.kind or "f32", connectivity=16, expansion_add=CONSTRUCTION
        )

    def build(self, vectors: np.ndarray) -> None:
        self._new(vectors.shape[1])
        self.index.add(np.arange(len(vectors)), vectors, threads=1)

    def save(self, folder: Path) -> None:
        self.index.save(str(folder / "index"))

    def load(self, folder: Path, vectors: np.ndarray) -> None:
        self._new(vectors.shape[1])
        self.index.load(str(folder / "index"))

    def prepare(self, setting: list[Any], threads: int) -> None:
        self.index.expansion_search = setting[-1]
        self.threads = threads

    def search(self, queries: np.ndarray, k: int) -> Any:
        return self.index.search(queries, k, threads=self.threads).keys

    def search_one(self, query: np.ndarray, k: int) -> Any:
        return self.index.search(query, k, threads=1).keys


class Voyager(Contender):
    """Voyager; query_ef."""

    def build(self, vectors: np.ndarray) -> None:
        import voyager

        self.index = voyager.Index(
            voyager.Space.InnerProduct, vectors.shape[1], M=16, ef_construction=CONSTRUCTION, random_seed=SEED
        )
        self.index.add_items(vectors, num_threads=1)

    def save(self, folder: Path) -> None:
        self.index.save(str(folder / "index"))

    def load(self, folder: Path, vectors: np.ndarray) -> None:
        import voyager

        self.index = voyager.Index.load(str(folder / "index"))

    def prepare(self, setting: list[Any], threads: int) -> None:
        self.ef, self.threads = max(10, setting[-1]), threads

    def search(self, queries: np.ndarray, k: int) -> Any:
        return self.index.query(queries, k, num_threads=self.threads, query_ef=self.ef)[0]

    def search_one(self, query: np.ndarray, k: int) -> Any:
        return self.index.query(query, k, num_threads=1, query_ef=self.ef)[0]


class Scann(Contender):
    """ScaNN: tree, anisotropic hashing, reordering; rows to reorder, leaves to search."""

    def settings(self) -> list[list[Any]]:
        return [[rows] for rows in (20, 40, 80, 160, 320, 640)]

    def build(self, vectors: np.ndarray) -> None:
        from scann import scann_ops_pybind

        leaves = 2 ** round(np.log2(np.sqrt(len(vectors))) + 1)
        self.searcher = (
            scann_ops_pybind.builder(vectors, 10, "dot_product")
            .set_n_training_threads(1)
            .tree(leaves, leaves // 16, training_sample_size=min(len(vectors), 250_000))
            .score_ah(2, anisotropic_quantization_threshold=0.2)
            .reorder(100)
            .build()
        )

    def save(self, folder: Path) -> None:
        self.searcher.serialize(str(folder))

    def load(self, folder: Path, vectors: np.ndarray) -> None:
        from scann import scann_ops_pybind

        self.searcher = scann_ops_pybind.load_searcher(str(folder))

    def prepare(self, setting: list[Any], threads: int) -> None:
        self.rows, self.leaves, self.threads = *setting, threads
        self.searcher.set_num_threads(threads)

    def search(self, queries: np.ndarray, k: int) -> Any:
        if self.threads == 1:
            return self.searcher.search_batched(queries, k, self.rows, self.leaves)[0]
        return self.searcher.search_batched_parallel(queries, k, self.rows, self.leaves)[0]

    def search_one(self, query: np.ndarray, k: int) -> Any:
        return self.searcher.search(query, k, self.rows, self.leaves)[0]


class Svs(Contender):
    """Intel SVS: a Vamana graph over vectors in float32, or compressed as `kind` says (such as LVQ4x8); window."""

    def build(self, vectors: np.ndarray) -> None:
        import tempfile

        import svs

        parameters = svs.VamanaBuildParameters(alpha=0.95, graph_max_degree=32, window_size=CONSTRUCTION)
        if not self.kind:
            self.index = svs.Vamana.build(parameters, vectors, svs.DistanceType.MIP, num_threads=1)
            return
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/vectors.fvecs"
            svs.write_vecs(vectors, path)
            loader = self._loader(svs.VectorDataLoader(path, svs.DataType.float32, vectors.shape[1]), vectors)
            self.index = svs.Vamana.build(parameters, loader, svs.DistanceType.MIP, num_threads=1)

    def _loader(self, vectors: Any, like: np.ndarray) -> Any:
        import svs

        if self.kind == "LeanVec":
            return svs.LeanVecLoader(vectors, like.shape[1] // 2)
        primary, residual = map(int, self.kind.removeprefix("LVQ").split("x"))
        return svs.LVQLoader(vectors, primary=primary, residual=residual)

    def save(self, folder: Path) -> None:
        self.index.save(*(str(folder / part) for part in ("config", "graph", "data")))

    def load(self, folder: Path, vectors: np.ndarray) -> None:
        import svs

        data = str(folder / "data")
        loader = {"": svs.VectorDataLoader, "LeanVec": svs.LeanVecLoader}.get(self.kind, svs.LVQLoader)(data)
        graph = svs.GraphLoader(str(folder / "graph"))
        self.index = svs.Vamana(str(folder / "config"), graph, loader, svs.DistanceType.MIP)

    def prepare(self, setting: list[Any], threads: int) -> None:
        self.index.search_window_size = max(10, setting[-1])
        self.index.num_threads = threads

    def search(self, queries: np.ndarray, k: int) -> Any:
        return self.index.search(queries, k)[0]


def faiss_here() -> Any:
    """The FAISS of this environment, in which this project need not be."""
    return importlib.import_module("faiss")


class Faiss(Contender):
    """A FAISS factory string, bare; the parameters of its layers."""

    def build(self, vectors: np.ndarray) -> None:
        faiss = faiss_here()

        faiss.omp_set_num_threads(1)
        kind, _, construction = self.kind.partition("@")
        self.index = faiss.index_factory(vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
        if construction:
            faiss.ParameterSpace().set_index_parameter(self.index, "efConstruction", int(construction))
        self.index.train(vectors)
        self.index.add(vectors)

    def save(self, folder: Path) -> None:
        faiss = faiss_here()

        faiss.write_index(self.index, str(folder / "index"))

    def load(self, folder: Path, vectors: np.ndarray) -> None:
        faiss = faiss_here()

        self.index = faiss.read_index(str(folder / "index"))

    def names(self) -> list[str]:
        """FAISS's names of the parameters that there are, the most telling last."""
        faiss = faiss_here()

        names: list[str] = []
        index: Any = self.index
        while index is not None:
            index = faiss.downcast_index(index)
            if hasattr(index, "k_factor"):
                names.append("k_factor_rf")
            if hasattr(index, "nprobe"):
                names.append("nprobe")
                self.largest = index.nlist
            if hasattr(index, "hnsw"):
                names.append("efSearch")
            index = getattr(index, "base_index", None) or getattr(index, "index", None)
        return names

    def settings(self) -> list[list[Any]]:
        return [[rows] for rows in (2, 4, 8, 16, 32, 64)] if "k_factor_rf" in self.names() else [[]]

    def most(self) -> int:
        self.largest = 1_000 if "efSearch" in self.names() else self.largest
        return self.largest if self.names() else 1

    def parameters(self, setting: list[Any]) -> str:
        """As FAISS reads them; the one parameter of a kind that has none means nothing."""
        return ",".join(f"{name}={value}" for name, value in zip(self.names(), setting, strict=False))

    def prepare(self, setting: list[Any], threads: int) -> None:
        faiss = faiss_here()

        faiss.omp_set_num_threads(threads)
        space: Any = faiss.ParameterSpace()
        space.set_index_parameters(self.index, self.parameters(setting))

    def search(self, queries: np.ndarray, k: int) -> Any:
        return self.index.search(queries, k)[1]


class Autofaiss(Faiss):
    """autofaiss, which chooses a FAISS index within limits that leave room for the vectors as they are."""

    def build(self, vectors: np.ndarray) -> None:
        import autofaiss

        os.environ["TMPDIR"] = os.environ.get("TMPDIR", "/tmp")
        self.index, _ = autofaiss.build_index(
            vectors,
            save_on_disk=False,
            metric_type="ip",
            nb_cores=1,
            max_index_memory_usage="4G",
            current_memory_available="8G",
            verbose=40,
        )


class Ours(Faiss):
    """This project's `ItemIndex`; the parameters of its FAISS index."""

    def build(self, vectors: np.ndarray) -> None:
        from indexing.index import ItemIndex

        library_threads(1)
        self.items = ItemIndex.from_arrays(range(len(vectors)), vectors, kind=self.kind or "auto")
        self.index = self.items.faiss

    def save(self, folder: Path) -> None:
        self.items.save(folder / "index")

    def load(self, folder: Path, vectors: np.ndarray) -> None:
        from indexing.index import ItemIndex

        self.items = ItemIndex.load(folder / "index")
        self.index = self.items.faiss

    def prepare(self, setting: list[Any], threads: int) -> None:
        library_threads(threads)
        self.items.set_parameters(self.parameters(setting))

    def search(self, queries: np.ndarray, k: int) -> Any:
        return self.items.search(queries, k).rows


def library_threads(threads: int) -> None:
    """Tell FAISS how many threads to take."""
    faiss = faiss_here()

    faiss.omp_set_num_threads(threads)


LIBRARIES: dict[str, type[Contender]] = {
    "hnswlib": Hnswlib,
    "usearch": Usearch,
    "voyager": Voyager,
    "scann": Scann,
    "svs": Svs,
    "faiss": Faiss,
    "autofaiss": Autofaiss,
    "twotower": Ours,
}


def build(contender: Contender, vectors: str, keep: str) -> dict[str, Any]:
    """Build or read what was built."""
    folder, about = Path(keep), Path(keep) / "about.json"
    data = np.load(vectors, mmap_mode="r")
    if about.exists():
        contender.load(folder / "files", data)
    else:
        (folder / "files").mkdir(parents=True, exist_ok=True)
        started = time.perf_counter(), time.process_time()
        contender.build(np.array(data))
        wall, processor = time.perf_counter() - started[0], time.process_time() - started[1]
        contender.save(folder / "files")
        size = sum(file.stat().st_size for file in (folder / "files").rglob("*") if file.is_file())
        facts = {"build_s": processor, "wall_s": wall, "bytes_per_item": size / len(data)}
        about.write_text(json.dumps(facts))
    return {**json.loads(about.read_text()), "settings": contender.settings(), "most": contender.most()}


def search(
    contender: Contender, queries: str, k: int, setting: list[Any], threads: int, alone: bool, rows: bool
) -> dict[str, Any]:
    """Search for all queries, in a batch or one after another; seconds by the clock and of the processor, medians."""
    asked = _array(queries)
    contender.prepare(setting, threads)
    contender.search(asked[:8], k)
    turns = []
    for _ in range(1 if rows else TURNS):
        started = time.perf_counter(), time.process_time()
        found = [contender.search_one(query, k) for query in asked] if alone else contender.search(asked, k)
        turns.append((time.perf_counter() - started[0], time.process_time() - started[1]))
    took = dict(zip(("wall", "processor"), np.median(turns, axis=0).tolist(), strict=True))
    return {**took, "rows": np.asarray(found, np.int64).reshape(len(asked), k).tolist()} if rows else took


_arrays: dict[str, np.ndarray] = {}


def _array(path: str) -> np.ndarray:
    if path not in _arrays:
        _arrays[path] = np.load(path)
    return _arrays[path]


def main() -> None:
    """Answer until there are no more requests."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not stand among the answers
    contender = LIBRARIES[sys.argv[1]]()
    contender.kind = sys.argv[2] if len(sys.argv) > 2 else ""
    verbs: dict[str, Callable[..., dict[str, Any]]] = {"build": build, "search": search}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = verbs[request.pop("do")](contender, **request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
