"""`QueryTower`: people read into queries by numpy, tokenizers and onnxruntime alone; needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from tokenizers import Tokenizer

from indexing.index import ItemIndex
from towers.artefact import read_json, read_manifest
from towers.catalog import Catalog
from towers.errors import ArtefactError, InputError, MissingExtraError
from towers.history import NOTHING_KNOWN, Histories
from towers.history_text import HistoryText, HistoryTextConfig

KIND = "twotower/query"
Precision = Literal["float32", "int8"]
THREADS = 1  # for one question: whoever serves answers many side by side
SMALLEST = 1e-12  # norm that is divided by, as torch does


class TextReading(BaseModel):
    """How texts become the token ids that the text reader's graph reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prefix: str
    """Put before every text."""
    max_tokens: int
    """Longer texts are cut here, special tokens included."""
    start: int
    """Token before all others."""
    end: int
    """Token after all others."""
    template: str
    """What stands for one past item."""
    history: HistoryTextConfig
    """How a history becomes text."""


class QueryConfig(BaseModel):
    """All that fixes a query beside the graphs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    precision: Precision
    """Of the weights."""
    dimension: int
    """Length D of a query."""
    length: int | None
    """Most past items that the sequence reader reads; None: there is none."""
    ordered: bool
    """Whether their order means something; if not, they are read once each, in the order of their rows."""
    text: TextReading | None
    """What the text reader reads; None: there is none."""
    gates: dict[str, float]
    """How much each reader counts."""


@dataclass(frozen=True)
class Items:
    """What is known of the N items of a catalog, by row; made by `QueryTower.beside`.

    Args:
        vectors: float32 ``(N, D)``, zero where the index has none.
        has_vector: bool ``(N,)``; events with other items are to be left out of histories.
        text: writes histories for the text reader; None where there is none.
    """

    vectors: np.ndarray
    has_vector: np.ndarray
    text: HistoryText | None


class QueryTower:
    """The user tower of a model, exported by `serving.export`; made by `load`.

    Attributes:
        config: what fixes a query beside the graphs.
        space: fingerprint of the item vectors that it reads and whose neighbours its queries are.
        model: fingerprint of the model it was exported from.
    """

    def __init__(self, *, config: QueryConfig, space: str, model: str, folder: Path) -> None:
        self.config, self.space, self.model = config, space, model
        self._sequence = _session(folder / "sequence.onnx") if config.length else None
        self._text = _session(folder / "text.onnx") if config.text else None
        self._tokenizer = _tokenizer(folder / "tokenizer.json", config.text) if config.text else None

    @classmethod
    def load(cls, path: str | Path) -> QueryTower:
        """Read what `export_query` wrote.

        Raises:
            ArtefactError: no such folder, damaged, or of a newer format.
            MissingExtraError: onnxruntime is not installed.
        """
        path = Path(path)
        manifest = read_manifest(path, KIND)
        try:
            config = QueryConfig.model_validate(read_json(path / "query.json"))
            return cls(config=config, space=manifest["space"], model=manifest["model"], folder=path)
        except (ValidationError, KeyError) as error:
            raise ArtefactError(f"{path} holds no query tower that this version can read: {error}") from error

    def beside(self, index: ItemIndex, catalog: Catalog) -> Items:
        """What it needs to know of a catalog's items, their vectors taken from an index.

        Raises:
            ArtefactError: the index was made with another model.
            InputError: the catalog lacks a column that histories are written from.
        """
        if index.space != self.space:
            raise ArtefactError(
                f"the index belongs to another model: it is of the space {index.space[:12]!r}, the query tower reads "
                f"and asks in {self.space[:12]!r}; export it again from the index's model, or build the index again"
            )
        rows = index.ids.rows(catalog.ids.array)
        known, text = rows >= 0, None
        if reading := self.config.text:
            items = catalog.texts(reading.template)
            text = HistoryText(config=reading.history, items=items, tokenize=self._tokens, prefix=reading.prefix)
        return Items(np.where(known[:, None], index.vectors[rows], np.float32(0)), known, text)

    def encode(self, histories: Histories, items: Items, texts: Sequence[str | None] | None = None) -> np.ndarray:
        """Queries float32 ``(B, D)`` of unit norm, what `TwoTower.encode` gives to the precision of the weights.

        Args:
            histories: B pasts in rows of `items`, which may be empty.
            items: what they speak of.
            texts: a sentence for each person, read instead of the history text; None: none. Beside a history it counts
                as much as the history.

        Raises:
            InputError: a person of whom nothing is known that a reader could read.
        """
        sentences = list(texts) if texts is not None else [None] * len(histories)
        queries = np.empty((len(histories), self.config.dimension), np.float32)
        for person, sentence in enumerate(sentences):
            one = histories.take([person])
            parts = dict(self._readings(one, items, sentence))
            if not parts:
                raise InputError(NOTHING_KNOWN)
            alike = sentence and len(parts) == 2  # what a person asks for counts as much as what they did
            weighted = [part if alike else self.config.gates[name] * part for name, part in parts.items()]
            queries[person] = _unit(np.sum(weighted, axis=0))
        return queries

    def _readings(self, one: Histories, items: Items, sentence: str | None) -> Iterator[tuple[str, np.ndarray]]:
        """What each reader that has something to read says of one person."""
        if self._sequence is not None and len(one.items):
            yield "sequence", _run(self._sequence, **self._past(one, items.vectors))
        if self._text is not None and items.text is not None and self.config.text is not None:
            reading = self.config.text
            tokens = self._tokens([reading.prefix + sentence])[0] if sentence else items.text.tokens(one)[0]
            if tokens:
                yield "text", _run(self._text, ids=np.array([reading.start, *tokens, reading.end]))

    def _past(self, one: Histories, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """What the sequence reader's graph reads of one person: the newest events' vectors, ratings and times."""
        assert self.config.length is not None
        newest = slice(-self.config.length, None)
        rows, ratings = one.items[newest], one.ratings[newest]
        times = np.zeros(len(rows)) if one.times is None else one.times[newest]
        order = np.arange(len(rows)) if self.config.ordered else _newest_of_each(rows)
        return {"vectors": vectors[rows[order]], "ratings": ratings[order], "times": times[order]}

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, special tokens not included, cut to fit."""
        assert self._tokenizer is not None
        return [one.ids for one in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def _newest_of_each(rows: np.ndarray) -> np.ndarray:
    """Places of the distinct rows, in the rows' order; of what stands there several times, of the last."""
    _, back = np.unique(rows[::-1], return_index=True)
    return len(rows) - 1 - back


def onnxruntime() -> Any:
    """The library.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("query towers in ONNX need onnxruntime: pip install 'twotower[onnx]'") from error
    return onnxruntime


def _session(graph: Path) -> Any:
    library = onnxruntime()
    options = library.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = THREADS
    try:
        return library.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors have no common base but this
        raise ArtefactError(f"{graph} is no graph that onnxruntime {library.__version__} can run: {error}") from error


def _tokenizer(file: Path, reading: TextReading) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # as tokenizers raises it
        raise ArtefactError(f"{file} is no tokenizer that can be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(reading.max_tokens - 2)
    return tokenizer


def _run(session: Any, **values: np.ndarray) -> np.ndarray:
    """A graph's answer float32 ``(D,)``; what it does not look at, such as times, is not among its inputs."""
    wanted = [one.name for one in session.get_inputs()]
    return session.run(None, {name: values[name] for name in wanted})[0]


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), SMALLEST)
