"""A copy for speed computes the same, to the precision asked for, and leaves the original alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from towers.precision import fast_copy


class Small(nn.Module):
    """A convolution with normalisation, and a matrix used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.first = nn.Linear(8, 8)
        self.second = self.first

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(self.filters(pictures)).relu().mean((2, 3))
        return self.second(self.first(hidden))


@pytest.fixture
def module() -> Small:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Small().eval()


@pytest.mark.parametrize(("bf16", "error"), [(False, 1e-6), (True, 0.02)])
def test_it_computes_the_same(module: Small, bf16: bool, error: float) -> None:
    pictures = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        exact = module(pictures).float()
        torch.testing.assert_close(fast_copy(module, bf16=bf16)(pictures).float(), exact, atol=error, rtol=0)


def test_matrices_and_filters_are_rounded_and_the_rest_is_shared(module: Small) -> None:
    before = {name: value.clone() for name, value in module.state_dict().items()}
    copied = fast_copy(module, bf16=True)
    assert copied.filters.weight.dtype == copied.first.weight.dtype == torch.bfloat16
    assert copied.filters.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(copied.first.weight.float(), module.first.weight.bfloat16().float())
    assert copied.second is copied.first
    for name in ("filters.bias", "norm.weight", "norm.bias", "first.bias"):
        assert copied.get_parameter(name).data_ptr() == module.get_parameter(name).data_ptr()
    assert copied.norm.running_var.dtype == torch.float32
    assert not any(weight.requires_grad for weight in copied.parameters())
    assert all(weight.requires_grad and weight.dtype == torch.float32 for weight in module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
