"""Part by part, values and gradients are those of the whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from training.parts import in_parts


class Counted(nn.Module):
    """Two layers, which remember how many rows they were given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 3)).double()
        self.rows: list[int] = []

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        self.rows.append(len(first))
        return self.layers(first) * second[:, None]


def gradients(size: int) -> tuple[Tensor, list[Tensor], Counted]:
    """Of a loss in which every row meets every other."""
    work = Counted()
    generator = torch.Generator().manual_seed(1)
    first = torch.randn(10, 4, dtype=torch.float64, generator=generator).requires_grad_()
    second = torch.randn(10, dtype=torch.float64, generator=generator)
    found = in_parts(work, first, second, size=size)
    loss = (found @ found.T).logsumexp(1).mean()
    loss.backward()
    return loss.detach(), [first.grad, *(weight.grad for weight in work.parameters())], work  # type: ignore[list-item]


@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_gradients_are_those_of_the_whole(size: int) -> None:
    expected, whole, _ = gradients(10)
    loss, parts, work = gradients(size)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    for part, one in zip(parts, whole, strict=True):
        torch.testing.assert_close(part, one, rtol=1e-10, atol=1e-12)
    assert max(work.rows) == size
    assert sum(work.rows) == 20  # once for the values, once for the gradients


def test_what_fits_is_read_once() -> None:
    _, _, work = gradients(10)
    assert work.rows == [10]
    with torch.no_grad():
        in_parts(work, torch.zeros(10, 4, dtype=torch.float64), torch.zeros(10, dtype=torch.float64), size=3)
    assert work.rows == [10, 10]  # without gradients nothing is kept anyway


def test_dropout_drops_the_same_again() -> None:
    """The gradient of a sum is then 0 exactly where the value is 0, and 2 elsewhere."""
    torch.manual_seed(0)
    rows = torch.ones(50, 8, requires_grad=True)
    found = in_parts(nn.Dropout(0.5), rows, size=7)
    found.sum().backward()
    assert torch.equal(rows.grad, found.detach())
    assert 0 < (found == 0).sum() < found.numel()
