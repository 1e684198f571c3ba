"""python -m benchmarks.training_speed [--only WAY ...] [--save]

How fast is the text encoder fine-tuned, beside sentence-transformers? Pairs of the titles that a person of
MovieLens-100K has seen and the film after them; each film against those of the batch. Encoder, pairs, loss, batch,
optimizer and schedule are the same. Each way is a process of its own with one thread; those of one precision and as
many trained layers train an epoch each, in turns, and are timed by the processor time that they take, which other work
on the machine does not add to. Then each ranks the whole catalog for everybody's validation film.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.record import Record, plain
from towers.fusion import unit
from towers.movielens import movielens_100k
from towers.precision import at_least_single, bf16_is_fast
from towers.text import TextConfig, TextEncoder, embed_texts
from towers.tuning import Tune
from towers.weights import resolve
from training.config import OptimizerConfig
from training.frozen import FrozenStates
from training.losses import contrastive
from training.measuring.evaluate import Result, score
from training.measuring.metrics import paired_difference
from training.measuring.protocols import leave_one_out
from training.measuring.splits import Questions
from training.optimizer import Descent

PAIRS, BATCH, EPOCHS = 512, 64, 3
TITLES, TOKENS = 10, 64  # of what a person has seen
SCALE = 20.0  # of cosines, sentence-transformers' own
CONFIG = OptimizerConfig(rate_pretrained=1e-4, weight_decay=0.0)
UPPER = 2  # layers that the recipe that ships trains
DEPTH = 100
COMPARED = ("recall@20", "ndcg@20")
BUDGET = 10**9  # bytes for states that are kept

Reading = Callable[[np.ndarray], Float[Tensor, "b d"]]  # of texts at some rows


class Way(NamedTuple):
    """One way to train.

    Args:
        theirs: by sentence-transformers.
        bf16: whether bfloat16 computes.
        tune: what is trained.
        kept: whether the states behind frozen layers are kept from epoch to epoch.
        one_side: whether only what reads people is trained; films then have the vectors that they begin with.
        beside: the way of sentence-transformers with the same precision, and as many layers trained.
    """

    theirs: bool
    bf16: bool
    tune: Tune
    kept: bool = False
    one_side: bool = False
    beside: str = ""


USUAL, USUAL16, USUAL_UPPER = "theirs, float32", "theirs, bfloat16", "theirs, bfloat16, upper layers"
SHIPPED = "ours, as shipped: people's side alone"
WAYS = {
    USUAL: Way(theirs=True, bf16=False, tune="all"),
    "ours, float32": Way(theirs=False, bf16=False, tune="all", beside=USUAL),
    USUAL16: Way(theirs=True, bf16=True, tune="all"),
    "ours, bfloat16": Way(theirs=False, bf16=True, tune="all", beside=USUAL16),
    USUAL_UPPER: Way(theirs=True, bf16=True, tune=UPPER),
    "ours, bfloat16, upper layers": Way(theirs=False, bf16=True, tune=UPPER, beside=USUAL_UPPER),
    "ours, … states kept": Way(theirs=False, bf16=True, tune=UPPER, kept=True, beside=USUAL_UPPER),
    SHIPPED: Way(theirs=False, bf16=True, tune=UPPER, kept=True, one_side=True, beside=USUAL_UPPER),
}
GOALS = {"ours, float32": (USUAL, 1.0), "ours, bfloat16": (USUAL16, 1.0), SHIPPED: (USUAL, 3.0)}
GOALS["ours, bfloat16, upper layers"] = (USUAL_UPPER, 1.0)


class Data(NamedTuple):
    """What is trained on, and what is asked.

    Args:
        histories: texts of the pairs' pasts.
        films: int64 ``(P,)`` the row of each pair's film.
        catalog: text of every film.
        questions: everybody's validation film.
        asked: texts of the pasts before it.
        counts: int64 ``(N,)`` training events of each film.
    """

    histories: list[str]
    films: np.ndarray
    catalog: list[str]
    questions: Questions
    asked: list[str]
    counts: np.ndarray


class Turns:
    """Waits for its turn, and says how long it took."""

    def __init__(self, line: Connection) -> None:
        self._line, self._started = line, 0.0

    def begin(self) -> None:
        """An epoch may begin when the other end says so."""
        self._line.recv()
        self._started = time.process_time()

    def end(self) -> None:
        """It is done."""
        self._line.send(time.process_time() - self._started)


def main() -> None:
    """Run the benchmark."""
    options = _options()
    if any(importlib.util.find_spec(name) is None for name in ("sentence_transformers", "datasets")):
        raise SystemExit("training-speed needs what it is held against: pip install sentence-transformers datasets")
    record = Record("training-speed")
    names = [name for name in WAYS if name in (USUAL, *(options.only or WAYS))]
    seconds, results = _measure(names)
    record.rows = rows(seconds, results)
    record.notes = {
        "protocol": f"{PAIRS} pairs, {EPOCHS} epochs in turns, batches of {BATCH}; processor seconds of one thread; "
        "medians of the epochs after the first, which also prepares; whole: all epochs; quality on validation "
        "questions, 95 % intervals by bootstrap over people",
        "differences": _differences(results),
        "missed": missed(record.rows),
        "turns": seconds,
    }
    _show(record)
    record.finish(save=options.save)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=tuple(WAYS), help=f"ways to measure, beside '{USUAL}'")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    return parser.parse_args()


def _measure(names: list[str]) -> tuple[dict[str, list[float]], dict[str, Result]]:
    """Seconds of each epoch of each way, and how well it ranks in the end; ways of one kind at once, for memory."""
    kinds = [[name for name in names if other in (name, WAYS[name].beside)] for other in WAYS if WAYS[other].theirs]
    seconds: dict[str, list[float]] = {}
    results: dict[str, Result] = {}
    for kind in kinds:
        _in_turns(kind, seconds, results)
    return seconds, results


def _in_turns(names: list[str], seconds: dict[str, list[float]], results: dict[str, Result]) -> None:
    context, lines, screen = get_context("spawn"), {}, Console(stderr=True)
    for name in names:
        lines[name], other = context.Pipe()
        context.Process(target=work, args=(WAYS[name], other), daemon=True).start()
        other.close()
        seconds[name] = []
    for epoch in range(EPOCHS):
        for name, line in lines.items():
            line.send("go")
            seconds[name].append(round(line.recv(), 3))
            screen.print(f"epoch {epoch + 1}  {name:45} {seconds[name][-1]:7.2f} s")
    for name, line in lines.items():
        line.send("go")
        results[name] = line.recv()


def work(way: Way, line: Connection) -> None:
    """Train in a way, an epoch each time that `line` says so, and rank when it says so again."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = read_data()
    people, films = (theirs if way.theirs else ours)(way, data, Turns(line))
    line.recv()
    line.send(ranked(people, films, data))


def read_data() -> Data:
    """Some people's last training film and what they saw before it; everybody's validation film."""
    catalog, log = movielens_100k(progress=False)
    split = leave_one_out(log.known(catalog).histories(catalog)[1])
    titles, texts = catalog.titles, catalog.texts("{title}[ ({year})][. {genres}]")
    past = split.train
    able = np.flatnonzero(past.lengths >= 2)
    people = np.random.default_rng(0).permutation(able)[:PAIRS]
    last = past.offsets[people + 1] - 1
    before = [past.items[start:end] for start, end in zip(past.offsets[people], last, strict=True)]
    asked = split.validation.histories
    pasts = [asked.items[start:end] for start, end in zip(asked.offsets[:-1], asked.offsets[1:], strict=True)]

    def text(items: np.ndarray) -> str:
        return "; ".join(titles[row] for row in items[::-1][:TITLES])

    counts = np.bincount(past.items, minlength=len(catalog))
    return Data(list(map(text, before)), past.items[last], texts, split.validation, list(map(text, pasts)), counts)


def ours(way: Way, data: Data, turns: Turns) -> tuple[np.ndarray, np.ndarray]:
    """Train with this project's parts; vectors of who is asked about, and of films."""
    encoder = TextEncoder.load(TextConfig(max_tokens=TOKENS))
    reader = encoder.tunable_copy(way.tune).train()
    steps = EPOCHS * -(-PAIRS // BATCH)
    descent = Descent(nn.ModuleDict({"encoder": reader}), CONFIG, steps, name="training", setting="the rate")
    rng = np.random.default_rng(0)
    for epoch in range(EPOCHS):
        turns.begin()
        if not epoch:
            read_people, read_films = _readings(encoder, reader, way, data)
        order = rng.permutation(len(data.histories))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            queries, found = read_people(rows), read_films(data.films[rows])
            own = torch.eye(len(rows), dtype=torch.bool)
            loss = contrastive(queries, found, found, scale=torch.tensor(SCALE), left_out=own).mean()
            descent.step(loss)
        turns.end()
    reader.eval()
    return embed_texts(reader, data.asked), embed_texts(encoder if way.one_side else reader, data.catalog)


def _readings(encoder: TextEncoder, reader: TextEncoder, way: Way, data: Data) -> tuple[Reading, Reading]:
    """What gives the unit vectors of some of the histories, and of some of the films."""
    people = _reading(reader, way, data.histories)
    if not way.one_side:
        return people, _reading(reader, way, data.catalog)
    films = unit(torch.from_numpy(embed_texts(encoder, data.catalog)))
    return people, lambda rows: films[rows]


def _reading(reader: TextEncoder, way: Way, texts: list[str]) -> Reading:
    tokens = reader.tokenize(texts)
    states = FrozenStates(
        reader,
        lambda rows: [tokens[row] for row in rows],
        count=len(tokens),
        longest=TOKENS,
        budget=BUDGET if way.kept else 0,
    )

    def read(rows: np.ndarray) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=way.bf16):
            content, mask = states.of(rows, torch.device("cpu"))
            hidden = reader.lower(content, mask, 0) if states.start is None else content.float()
            return unit(at_least_single(reader.upper(hidden, mask, states.start or 0)))

    return read


def theirs(way: Way, data: Data, turns: Turns) -> tuple[np.ndarray, np.ndarray]:
    """Train as sentence-transformers' documentation says."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from sentence_transformers import SentenceTransformerTrainingArguments as Arguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers import TrainerCallback

    class Epochs(TrainerCallback):
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            turns.begin()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            turns.end()

    model = SentenceTransformer(resolve(TextConfig().source), device="cpu")
    model.max_seq_length = TOKENS
    if way.tune != "all":
        bert = model[0].auto_model
        for part in (bert.embeddings, *bert.encoder.layer[: len(bert.encoder.layer) - way.tune]):
            part.requires_grad_(False)
    steps = EPOCHS * -(-PAIRS // BATCH)
    with tempfile.TemporaryDirectory() as folder:
        arguments = Arguments(
            folder,
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH,
            learning_rate=CONFIG.rate_pretrained,
            lr_scheduler_type="cosine",
            warmup_steps=int(CONFIG.warmup * steps),
            weight_decay=CONFIG.weight_decay,
            adam_beta2=0.98,
            max_grad_norm=CONFIG.clip,
            bf16=way.bf16,
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            seed=0,
        )
        pairs = Dataset.from_dict({"anchor": data.histories, "positive": [data.catalog[row] for row in data.films]})
        loss = MultipleNegativesRankingLoss(model, scale=SCALE)
        SentenceTransformerTrainer(model, arguments, train_dataset=pairs, loss=loss, callbacks=[Epochs()]).train()
    model.eval()
    return tuple(model.encode(texts, show_progress_bar=False) for texts in (data.asked, data.catalog))  # type: ignore[return-value]


def ranked(people: np.ndarray, films: np.ndarray, data: Data) -> Result:
    """How high everybody's validation film stands among those that they have not seen, by cosine."""
    people, films = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (people, films))
    scores = people @ films.T
    scores[data.questions.histories.people, data.questions.histories.items] = -np.inf
    return score(np.argsort(-scores, axis=1)[:, :DEPTH], data.questions, counts=data.counts, depth=DEPTH)


def rows(seconds: dict[str, list[float]], results: dict[str, Result]) -> list[dict[str, Any]]:
    """One for each way; ratios are above 1 where the way is faster than sentence-transformers."""
    medians = {name: statistics.median(epochs[1:]) for name, epochs in seconds.items()}
    found = []
    for name, epochs in seconds.items():
        metrics: dict[str, Any] = {
            "epoch_s": round(medians[name], 2),
            "first_epoch_s": round(epochs[0], 2),
            "pairs_a_second": round(PAIRS / medians[name], 1),
            **{metric: plain(results[name].metrics[metric]) for metric in COMPARED},  # type: ignore[arg-type]
        }
        for column, other in {"ratio": WAYS[name].beside, "ratio_usual": USUAL}.items():
            if other in seconds and not WAYS[name].theirs:
                metrics[column] = round(medians[other] / medians[name], 3)
                metrics[f"whole_{column}"] = round(sum(seconds[other]) / sum(epochs), 3)
        found.append({"method": name, "split": "validation", "seed": 0, "metrics": metrics})
    return found


def missed(found: list[dict[str, Any]]) -> list[str]:
    """Which rows are slower than their goal."""
    said = []
    for row in found:
        other, goal = GOALS.get(row["method"], ("", 0.0))
        column = "whole_ratio_usual" if other == USUAL and goal > 1 else "ratio"
        if row["metrics"].get(column, goal) < goal:
            said.append(f"{row['method']}: {row['metrics'][column]} times as fast as {other}, {goal} wanted")
    return said


def _differences(results: dict[str, Result]) -> list[dict[str, Any]]:
    """Each of our ways less the usual one of sentence-transformers, on the same people."""
    return [
        {
            "metric": metric,
            "split": "validation",
            "seed": 0,
            "ours": name,
            "theirs": USUAL,
            "difference": plain(paired_difference(result.per_person[metric], results[USUAL].per_person[metric])),
        }
        for name, result in results.items()
        if name != USUAL
        for metric in COMPARED
    ]


def _show(record: Record) -> None:
    columns = ("epoch, s", "first, s", "× beside", "× usual", "× usual, whole", "ndcg@20", "less the usual's")
    table = Table("way", *columns, title="fine-tuning, beside sentence-transformers")
    differences = {one["ours"]: one["difference"] for one in record.notes["differences"] if one["metric"] == "ndcg@20"}
    for row in record.rows:
        values = row["metrics"]
        ratios = [f"{values[name]:.2f}" if name in values else "" for name in ("ratio", "ratio_usual")]
        ratios.append(f"{values['whole_ratio_usual']:.2f}" if "whole_ratio_usual" in values else "")
        value, low, high = values["ndcg@20"]
        less = differences.get(row["method"])
        table.add_row(
            row["method"], f"{values['epoch_s']:.2f}", f"{values['first_epoch_s']:.2f}", *ratios,
            f"{value:.3f} ({low:.3f}–{high:.3f})",
            f"{less[0]:+.4f} ({less[1]:+.4f} to {less[2]:+.4f})" if less else "",
        )  # fmt: skip
    screen = Console(stderr=True, width=160)
    screen.print(table)
    screen.print(f"bfloat16 is {'' if bf16_is_fast(torch.device('cpu')) else 'not '}fast here")
    screen.print("Goals missed: " + ("; ".join(record.notes["missed"]) or "none"))


if __name__ == "__main__":
    main()
