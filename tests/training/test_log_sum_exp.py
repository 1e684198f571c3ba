"""The sum over negatives in blocks against autograd over all logits at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training import log_sum_exp as blocks
from training.log_sum_exp import log_sum_exp


@pytest.fixture(params=[1, 3, 128], ids=["a query at a time", "few", "one block"], autouse=True)
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "ROWS", request.param)


def drawn(dtype: torch.dtype, each: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """7 queries of so many rows, 9 items, of which some are left out, for the last query all."""
    generator = torch.Generator().manual_seed(each)
    queries, items, weight = (
        torch.randn(*shape, generator=generator, dtype=dtype) for shape in ((7 * each, 4), (9, 4), (9,))
    )
    left_out = torch.rand(7, 9, generator=generator) < 0.3
    left_out[-1] = True
    return queries.requires_grad_(), items.requires_grad_(), left_out, weight


def whole(queries: Tensor, items: Tensor, left_out: Tensor, weight: Tensor) -> Tensor:
    each = len(queries) // len(left_out)
    return (queries @ items.T + weight).masked_fill(left_out.repeat_interleave(each, 0), -torch.inf).logsumexp(1)


@pytest.mark.parametrize("each", [1, 3])
def test_values_and_gradients_are_those_of_autograd(each: int) -> None:
    queries, items, left_out, weight = drawn(torch.float64, each)
    ours, theirs = log_sum_exp(queries, items, left_out, weight), whole(queries, items, left_out, weight)
    assert ours.tolist() == pytest.approx(theirs.tolist())
    assert ours[-each:].tolist() == [-torch.inf] * each
    pull = torch.arange(1, 1 + 7 * each, dtype=torch.float64)
    found = torch.autograd.grad((ours[:-each] * pull[:-each]).sum(), [queries, items])
    expected = torch.autograd.grad((theirs[:-each] * pull[:-each]).sum(), [queries, items])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_gradcheck() -> None:
    queries, items, left_out, weight = drawn(torch.float64, 2)
    left_out[-1, 3] = False
    assert torch.autograd.gradcheck(lambda q, v: log_sum_exp(q, v, left_out, weight), (queries, items))


def test_where_everything_is_left_out_nothing_is_learned() -> None:
    queries, items, left_out, _ = drawn(torch.float32, 1)
    torch.nn.functional.softplus(log_sum_exp(queries, items, left_out)).sum().backward()
    assert queries.grad is not None
    assert items.grad is not None
    assert queries.grad[-1].tolist() == [0] * 4
    assert queries.grad[:-1].abs().sum(1).min() > 0
    assert items.grad.isfinite().all()


def test_under_autocast_sums_are_single_precision_and_gradients_those_of_the_inputs() -> None:
    queries, items, left_out, weight = drawn(torch.float32, 1)
    exact = whole(queries.bfloat16().float(), items.bfloat16().float(), left_out, weight)
    with torch.autocast("cpu", torch.bfloat16):
        ours = log_sum_exp(queries, items, left_out, weight)
    assert ours.dtype == torch.float32
    assert ours[:-1].tolist() == pytest.approx(exact[:-1].tolist(), abs=0.02)
    ours[:-1].sum().backward()
    assert queries.grad is not None
    assert queries.grad.dtype == torch.float32
    (expected,) = torch.autograd.grad(exact[:-1].sum(), [queries])
    torch.testing.assert_close(queries.grad, expected, atol=0.02, rtol=0.02)


def test_without_queries_there_are_no_sums() -> None:
    queries, items, left_out, _ = drawn(torch.float32, 1)
    assert log_sum_exp(queries[:0], items, left_out[:0]).shape == (0,)
