"""Masked fusion by hand."""

from __future__ import annotations

import math

import pytest
import torch

from towers.fusion import MaskedFusion, unit

A, B = torch.tensor([[3.0, 0.0], [3.0, 0.0], [3.0, 0.0]]), torch.tensor([[0.0, 4.0], [0.0, 4.0], [9.0, 9.0]])


def test_present_parts_are_summed_and_scaled() -> None:
    fused = MaskedFusion({"a": 1.0, "b": 1.0})({"a": (A, None), "b": (B, torch.tensor([True, False, False]))})
    torch.testing.assert_close(fused, torch.tensor([[0.6, 0.8], [1.0, 0.0], [1.0, 0.0]]))


def test_gates_weigh_the_parts() -> None:
    fusion = MaskedFusion({"a": 1.0, "b": 1.0})
    with torch.no_grad():
        fusion.gates["a"].fill_(math.log(math.exp(2) - 1))  # softplus of it is two
    fused = fusion({"a": (A[:1], None), "b": (B[:1], None)})
    torch.testing.assert_close(fused, torch.tensor([[6.0, 4.0]]) / math.sqrt(52))


def test_a_missing_part_is_not_content() -> None:
    """Whatever stands in its place, NaN included, is not looked at and gets no gradient."""
    fusion = MaskedFusion({"a": 1.0, "b": 1.0})
    mask = torch.tensor([False])
    rubbish = torch.full((1, 2), float("nan"), requires_grad=True)
    here = torch.tensor([[3.0, 1.0]], requires_grad=True)
    fused = fusion({"a": (here, None), "b": (rubbish, mask)})
    assert torch.equal(fused, fusion({"a": (here, None)}))
    fused[0, 0].backward()
    assert rubbish.grad is not None
    assert here.grad is not None
    assert rubbish.grad.tolist() == [[0, 0]]
    # d(x / |x|) = (1 - x x^T / |x|^2) / |x| at (3, 1)
    torch.testing.assert_close(here.grad, torch.tensor([[0.1, -0.3]]) / math.sqrt(10))


def test_where_nothing_is_present_the_result_is_zero() -> None:
    fused = MaskedFusion({"a": 1.0, "b": 1.0})({"b": (B, torch.tensor([False, True, False]))})
    torch.testing.assert_close(fused.norm(dim=1), torch.tensor([0.0, 1.0, 0.0]))


def test_no_parts_at_all_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no parts"):
        MaskedFusion({"a": 1.0})({})


def test_gradients() -> None:
    fusion = MaskedFusion({"a": 1.0, "b": 1.0}).double()
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(3, 4, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    mask = torch.tensor([True, False, True])
    gates = list(fusion.parameters())

    def fuse(a: torch.Tensor, b: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return fusion({"a": (a, None), "b": (b, mask)})

    assert torch.autograd.gradcheck(fuse, (a, b, *gates))
    fuse(a, b)[1, 0].backward()
    assert gates[1].grad == 0  # the second row has no b, so its gate does not matter there


def test_unit() -> None:
    torch.testing.assert_close(unit(torch.tensor([[3.0, 4.0]])), torch.tensor([[0.6, 0.8]]))
