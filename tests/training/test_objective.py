"""One step's losses against plain loops over people, events and items."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from towers.contents import Contents
from towers.history import Histories
from towers.history_text import HistoryText
from towers.ids import IdList
from towers.model import TwoTower
from towers.model_config import ModelConfig
from towers.text import TextConfig, TextEncoder
from training.anchors import Anchors
from training.augment import augmented, views_loss
from training.config import TrainConfig
from training.items import MULTIPLE, Items, ItemVectors
from training.negatives import Known, Negatives
from training.objective import Objective
from training.sampling import windows
from training.step import Sentences
from training.step import Step as TrainingStep
from training.tasks import Rating

TITLES = ["quiet piano", "fast engine", "night race", "evening rain", "motor", "violin"]
HISTORIES = Histories.of([[0, 2, 1, 3], [4, 5], [1, 1, 5, 0, 2]])
COUNT = len(TITLES)


class Step:
    """A model, and the windows, anchors and sentences of one step."""

    def __init__(
        self,
        tiny_bert: Path,
        sampled: bool = False,
        unmet: tuple[int, ...] = (),
        train: dict[str, Any] | None = None,
        draws: int = 4000,
        **user: Any,
    ) -> None:
        torch.manual_seed(0)
        encoder = TextEncoder.load(TextConfig(source=str(tiny_bert)))
        config = ModelConfig.model_validate({"item": {"dimension": 8, "hidden": 8}, "user": user})
        self.model = TwoTower(config=config, encoder=encoder, ids=IdList(range(COUNT)), template="{title}").eval()
        self.items = Items(
            Contents({"text": torch.randn(COUNT, encoder.dimension)}, {"text": torch.ones(COUNT, dtype=torch.bool)}),
            torch.arange(COUNT),
            torch.tensor([n in unmet for n in range(COUNT)]),
        )
        counts = np.bincount(HISTORIES.items, minlength=COUNT)
        self.objective = Objective(
            model=self.model,
            items=self.items,
            known=Known(HISTORIES, COUNT),
            negatives=Negatives(counts / counts.sum(), draws) if sampled else None,
            config=TrainConfig(**{"sentence_weight": 0.5, **(train or {})}),
        )
        self.objective.eval()
        self.windows = windows(HISTORIES, np.array([2, 0]), 5, np.random.default_rng(0))
        self.vectors = self.model.item(self.items.contents, self.items.id_rows)
        if self.model.user.text is not None:
            reader = self.model.user.text
            text = HistoryText(config=reader.config.history, items=TITLES, tokenize=encoder.tokenize_plain)
            rng = np.random.default_rng(0)
            kept = Anchors(histories=HISTORIES, reader=reader, text=text, each=3, budget=0, rng=rng)
            self.anchors = kept.texts(self.windows, 2, rng, torch.device("cpu"))
            ids, mask = encoder.pad(encoder.tokenize(["piano", "race", "rain"]))
            self.sentences = Sentences(ids, mask, torch.tensor([0, 2, 3]))

    def losses(self, read: bool = True) -> dict[str, Tensor]:
        read = read and self.model.user.text is not None
        generator = torch.Generator().manual_seed(0)
        more = (self.anchors, self.sentences) if read else (None, None)
        return self.objective(self.windows, *more, generator)

    def loss_of(self, query: Tensor, target: int, known: set[int]) -> float:
        """Softmax cross-entropy over the catalog without what is known."""
        each = self.model.scale * (self.vectors @ query.reshape(-1, query.shape[-1]).T)
        logits = each.logsumexp(1).tolist()  # over interests, where there are several
        rest = [math.exp(logits[n] - logits[target]) for n in range(COUNT) if n != target and n not in known]
        return math.log(1 + sum(rest))


def known_of(row: int) -> set[int]:
    return set(HISTORIES.take([[2, 0][row]]).items.tolist())


@pytest.mark.parametrize("interests", [1, 2])
def test_every_loss_by_loops(tiny_bert: Path, interests: int) -> None:
    step = Step(tiny_bert, interests=interests)
    losses = {name: value.item() for name, value in step.losses().items()}
    inputs, targets, anchors = step.windows.inputs, step.windows.targets, step.anchors
    assert anchors is not None
    assert step.model.user.sequence is not None
    assert step.model.user.text is not None
    sequence = step.model.user.sequence(step.vectors, inputs)
    text = step.model.user.text.read_hidden(anchors.content.float(), anchors.mask, anchors.start)

    found = [
        step.loss_of(sequence[row, column], int(targets[row, column]), known_of(row))
        for row in range(2)
        for column in range(inputs.items.shape[1])
        if inputs.mask[row, column]
    ]
    assert len(found) == 3 + 4
    assert losses["sequence"] == pytest.approx(np.mean(found), rel=1e-4)

    where = list(zip(anchors.rows.tolist(), anchors.columns.tolist(), strict=True))
    assert len(where) == 4
    found = [step.loss_of(text[n], int(targets[at]), known_of(at[0])) for n, at in enumerate(where)]
    assert losses["text"] == pytest.approx(np.mean(found), rel=1e-4)
    fused = [step.model.user.fuse((sequence[at][None], None), (text[n][None], None))[0] for n, at in enumerate(where)]
    found = [step.loss_of(fused[n], int(targets[at]), known_of(at[0])) for n, at in enumerate(where)]
    assert losses["fused"] == pytest.approx(np.mean(found), rel=1e-4)

    queries = step.model.user.text(step.sentences.ids, step.sentences.mask)
    found = [step.loss_of(query, int(item), set()) for query, item in zip(queries, step.sentences.items, strict=True)]
    assert losses["sentence"] == pytest.approx(np.mean(found), rel=1e-4)
    total = losses["sequence"] + losses["text"] + losses["fused"] + 0.5 * losses["sentence"]
    assert losses["loss"] == pytest.approx(total, rel=1e-5)


def test_a_large_sample_costs_what_the_catalog_does(tiny_bert: Path) -> None:
    """With thousands of draws from six items the correction leaves the full softmax, to the draws' noise."""
    full, sampled = (Step(tiny_bert, sampled).losses() for sampled in (False, True))
    for name in ("sequence", "text", "fused"):
        assert sampled[name].item() == pytest.approx(full[name].item(), rel=0.02)


@pytest.mark.parametrize("interests", [1, 3])
def test_two_views_of_each_past_read_alike(tiny_bert: Path, interests: int) -> None:
    """The loss of their last queries, with its weight in the sum; of several interests the mean cosine counts."""
    step = Step(tiny_bert, text=False, interests=interests, train={"views_weight": 0.5})
    losses = step.losses()
    generator = torch.Generator().manual_seed(0)
    assert step.model.user.sequence is not None
    first, second = (
        step.model.user.sequence(step.vectors, augmented(step.windows.inputs, generator))[:, -1] for _ in range(2)
    )
    cosines = (first.view(2, 1, interests, 8) * second.view(1, 2, interests, 8)).sum(-1).mean(-1)
    expected = views_loss(cosines, torch.eye(2), step.model.scale)
    assert losses["views"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses["loss"].item() == pytest.approx((losses["sequence"] + 0.5 * losses["views"]).item(), rel=1e-5)


@pytest.mark.parametrize("sampled", [False, True])
def test_no_interest_is_without_gradients(tiny_bert: Path, sampled: bool) -> None:
    """Not even one that is never the nearest."""
    step = Step(tiny_bert, sampled, text=False, interests=3)
    reader = step.model.user.sequence
    assert reader is not None
    with torch.no_grad():
        reader.out.bias[:8] -= 20 * step.vectors.mean(0)
    queries = reader(step.vectors, step.windows.inputs)[step.windows.inputs.mask]
    assert 0 not in (queries @ step.vectors.T).argmax(1)
    step.losses()["loss"].backward()
    assert reader.out.weight.grad is not None
    moved = reader.out.weight.grad.view(3, -1).norm(dim=1)
    assert moved.min() > 1e-4 * moved.max()


def step_that_reads(
    tiny_bert: Path, patch: pytest.MonkeyPatch, whole: bool
) -> tuple[list[list[int]], float, dict[str, Tensor]]:
    """Rows of items that are read, loss and gradients of a step with one uniform negative."""
    step = Step(tiny_bert, sampled=True, text=False, draws=1)
    forward, read = step.model.item.forward, []
    step.model.item.forward = lambda contents, rows: read.append(rows.tolist()) or forward(contents, rows)
    if whole:
        patch.setattr(TrainingStep, "_item_vectors", lambda _: ItemVectors(step.model.item, step.items, None))
    loss = step.losses()["loss"]
    loss.backward()
    gradients = {name: weight.grad for name, weight in step.model.named_parameters() if weight.grad is not None}
    return read, loss.item(), gradients


def test_a_step_reads_the_items_that_it_looks_at_and_no_others(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loss and gradients are those of a step that reads the whole catalog."""
    read, loss, gradients = step_that_reads(tiny_bert, monkeypatch, whole=False)
    everything, whole_loss, whole_gradients = step_that_reads(tiny_bert, monkeypatch, whole=True)
    assert read == [[0, 1, 2, 3] + (MULTIPLE - 4) * [5]]  # 4 is in nobody's window here, and was not drawn
    assert everything == [list(range(COUNT))]
    assert loss == pytest.approx(whole_loss, rel=1e-6)
    assert set(gradients) == set(whole_gradients)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, whole_gradients[name], rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("sampled", [False, True])
def test_what_nobody_has_met_is_nobodys_negative(tiny_bert: Path, sampled: bool) -> None:
    """An item without events gets no gradient from the readers' losses, wherever its vector lies."""
    step = Step(tiny_bert, sampled, unmet=(4,), text=False)
    own = step.model.item.id
    assert own is not None
    step.losses()["loss"].backward()
    assert own.weight.grad is not None
    moved = own.weight.grad.abs().sum(1) > 0
    assert moved.tolist() == [n != 4 for n in range(COUNT)]


def test_windows_of_a_long_past_without_any_anchor(tiny_bert: Path) -> None:
    """Nothing is read in this step, which costs nothing and moves nothing."""
    step = Step(tiny_bert, sequence=False)
    losses = step.losses(read=False)
    assert list(losses) == ["loss"]
    losses["loss"].backward()
    assert losses["loss"].item() == 0
    assert all(p.grad is None or not p.grad.any() for p in step.model.parameters())


def test_one_reader_alone(tiny_bert: Path) -> None:
    assert set(Step(tiny_bert, text=False).losses()) == {"loss", "sequence"}
    assert set(Step(tiny_bert, sequence=False).losses()) == {"loss", "text", "sentence"}


def test_without_a_sequence_reader_ratings_and_clicks_are_learned_at_the_anchors(tiny_bert: Path) -> None:
    step = Step(tiny_bert, sequence=False, train={"rating_weight": 1.0, "click_weight": 1.0})
    rated = torch.rand(step.windows.targets.shape, generator=torch.Generator().manual_seed(1))
    step.windows = replace(step.windows, ratings=rated)
    losses, anchors, head = step.losses(), step.anchors, step.objective.heads["rating"]
    assert set(losses) == {"loss", "text", "sentence", "rating", "click"}
    assert anchors is not None
    assert isinstance(head, Rating)
    assert step.model.user.text is not None
    queries = step.model.user.text.read_hidden(anchors.content.float(), anchors.mask, anchors.start)
    predicted = head.predict(queries, step.vectors[step.windows.targets[anchors.rows, anchors.columns]])
    expected = (predicted - rated[anchors.rows, anchors.columns]).square().mean()
    assert losses["rating"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("sampled", [False, True])
def test_in_parts_the_gradients_are_the_same(tiny_bert: Path, sampled: bool) -> None:
    """Each person and each text alone, against all at once."""
    found = []
    for part in (1, 100):
        step = Step(tiny_bert, sampled=sampled, train={"part": part})
        step.losses()["loss"].backward()
        found.append({name: weight.grad for name, weight in step.model.named_parameters() if weight.grad is not None})
    parts, whole = found
    assert set(parts) == set(whole)
    assert any("user.text.encoder" in name for name in whole)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
