"""The user tower of a model as ONNX graphs in a folder, for `serving.query`."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from serving.query import KIND, Precision, QueryConfig, TextReading, onnxruntime
from towers.artefact import artefact_writer, write_json
from towers.errors import ArtefactError, InputError, MissingExtraError
from towers.model import TwoTower
from towers.sequence_reader import SequenceBatch
from towers.text_reader import TextReader
from towers.user import PastReader

OPSET = 17  # the first with layer normalisation
SAME = 0.9999  # least cosine of a float32 graph to the model

Inputs = dict[str, Tensor]


def export_query(model: TwoTower, out: str | Path, *, precision: Precision = "int8") -> None:
    """Write the user tower of a model as an artefact folder, whole or not at all.

    Each reader becomes a graph that reads one person; in float32 it is checked against the model before it is
    rounded.

    Args:
        model: what to export.
        out: folder.
        precision: of matrices and word vectors. ``"int8"`` rounds them to 7 bits, on a scale for each row, as 8 would
            overflow in processors without VNNI; what they are multiplied with is rounded to 8 bits as it comes.

    Raises:
        ArtefactError: `out` is something else or cannot be written, or a graph does not do what the model does.
        InputError: a model with several interests.
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    if model.config.user.interests > 1:
        raise InputError("a model of people with several interests cannot be exported: one query is what is asked with")
    _check_installed()
    user = copy.deepcopy(model.user).cpu().eval().requires_grad_(False)
    config = QueryConfig(
        precision=precision,
        dimension=model.config.item.dimension,
        length=user.sequence.config.length if user.sequence is not None else None,
        ordered=user.sequence.config.ordered if user.sequence is not None else True,
        text=_text_reading(model),
        gates={name: float(user.fusion.gate(name)) for name in ("sequence", "text")},
    )
    facts = {"space": model.space, "model": model.fingerprint, "precision": precision}
    with artefact_writer(Path(out), KIND, facts) as folder:
        write_json(folder / "query.json", config.model_dump(mode="json"))
        if user.sequence is not None:
            _write(_Sequence(user.sequence), _pasts(user.sequence), folder / "sequence.onnx", precision)
        if user.text is not None:
            _write(_Text(user.text), _sentences(user.text), folder / "text.onnx", precision)
            user.text.encoder.tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))


def _check_installed() -> None:
    onnxruntime()
    try:
        import onnx  # noqa: F401  that both torch and onnxruntime need to write a graph
    except ImportError as error:
        raise MissingExtraError("exporting to ONNX needs onnx: pip install 'twotower[onnx]'") from error


def _text_reading(model: TwoTower) -> TextReading | None:
    if model.user.text is None:
        return None
    encoder, history = model.user.text.encoder, model.user.text.config.history
    start, end = encoder.with_specials([])
    return TextReading(
        prefix=encoder.config.prefix,
        max_tokens=encoder.config.max_tokens,
        start=start,
        end=end,
        template=history.template or model.template,
        history=history,
    )


class _Sequence(nn.Module):
    """The sequence reader of one person: the query after the newest event."""

    def __init__(self, reader: PastReader) -> None:
        super().__init__()
        self.reader = reader

    def forward(
        self, vectors: Float[Tensor, "n d"], ratings: Float[Tensor, " n"], times: Float[Tensor, " n"]
    ) -> Float[Tensor, " d"]:
        items = torch.arange(vectors.shape[0])[None]
        one = SequenceBatch(items, ratings[None], times[None], torch.ones_like(items, dtype=torch.bool))
        return self.reader.read(vectors, one)[0, -1]


class _Text(nn.Module):
    """The text reader of one person, special tokens included."""

    def __init__(self, reader: TextReader) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, ids: Int[Tensor, " n"]) -> Float[Tensor, " d"]:
        return self.reader(ids[None], torch.ones_like(ids, dtype=torch.bool)[None])[0]


def _pasts(reader: PastReader) -> list[Inputs]:
    """People to try it on, the first to trace it by: some rated some not, some years apart some seconds."""
    random = torch.Generator().manual_seed(0)
    found = []
    for events in dict.fromkeys(min(count, reader.config.length) for count in (3, 1, reader.config.length)):
        gaps = 10 ** (9 * torch.rand(events, generator=random, dtype=torch.float64))
        ratings = torch.rand(events, generator=random)
        vectors = nn.functional.normalize(torch.randn(events, reader.shape[-1], generator=random), dim=-1)
        found.append({"vectors": vectors, "ratings": ratings.where(ratings > 0.5, torch.nan), "times": gaps.cumsum(0)})
    return found


def _sentences(reader: TextReader) -> list[Inputs]:
    """Sentences of any words, as long as there are."""
    random = torch.Generator().manual_seed(0)
    words, longest = len(reader.encoder.tokenizer), max(reader.encoder.config.max_tokens, reader.config.history.budget)
    return [{"ids": torch.randint(words, (tokens,), generator=random)} for tokens in (6, 2, longest)]


@torch.no_grad()
def _write(module: nn.Module, tries: list[Inputs], path: Path, precision: Precision) -> None:
    """Trace a reader, check its graph, round its weights."""
    module.eval()
    names = list(tries[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a trace could miss, which is checked; and that torch has a newer way
        torch.onnx.export(
            module,
            tuple(tries[0].values()),
            path,
            input_names=names,
            output_names=["query"],
            dynamic_axes={name: {0: "length"} for name in names},
            opset_version=OPSET,
            dynamo=False,
        )
    _check(module, tries, path)
    if precision == "int8":
        _quantise(path)


def _check(module: nn.Module, tries: list[Inputs], path: Path) -> None:
    session = onnxruntime().InferenceSession(path, providers=["CPUExecutionProvider"])
    used = {one.name for one in session.get_inputs()}
    for one in tries:
        (query,) = session.run(None, {name: value.numpy() for name, value in one.items() if name in used})
        cosine = float(np.dot(query, module(**one).numpy()))
        if not cosine >= SAME:
            raise ArtefactError(
                f"the graph {path.name} gives another query than the model (cosine {cosine:.4f}, expected {SAME}): "
                "this text encoder cannot be exported by this torch"
            )


def _quantise(path: Path) -> None:
    """Round matrices and word vectors to int8, in place; what they are multiplied with is rounded as it comes."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    known, rounded = path.with_suffix(".known"), path.with_suffix(".rounded")
    quant_pre_process(path, known, skip_symbolic_shape=True)
    quantize_dynamic(known, rounded, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
    known.unlink()
    rounded.replace(path)
