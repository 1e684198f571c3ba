"""A copy for speed computes the same, to the precision asked for, and leaves the original alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from towers.precision import bf16_is_near, fast_copy


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


@pytest.mark.parametrize(("bf16", "dtype", "error"), [(False, torch.float32, 1e-6), (True, torch.bfloat16, 0.02)])
def test_it_computes_the_same(module: Small, bf16: bool, dtype: torch.dtype, error: float) -> None:
    pictures = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = fast_copy(module, bf16=bf16)(pictures.to(dtype))
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), module(pictures), atol=error, rtol=0)


def test_weights_are_rounded_and_the_original_stays(module: Small) -> None:
    before = {name: value.clone() for name, value in module.state_dict().items()}
    copied = fast_copy(module, bf16=True)
    for name, value in copied.state_dict().items():
        whole = not before[name].is_floating_point()
        assert torch.equal(value, before[name] if whole else before[name].bfloat16()), name
    assert copied.second is copied.first
    assert not any(weight.requires_grad for weight in copied.parameters())
    assert all(weight.requires_grad for weight in module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_filters_lie_channels_last_and_the_rest_is_shared(module: Small) -> None:
    copied = fast_copy(module, bf16=False)
    assert copied.filters.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(copied.filters.weight, module.filters.weight)
    for name in ("filters.bias", "norm.weight", "first.weight"):
        assert copied.get_parameter(name).data_ptr() == module.get_parameter(name).data_ptr()


def test_batch_normalisation_is_not_rounded(module: Small) -> None:
    """What is left once a mean of 300 is taken away is lost in bfloat16, whose numbers lie 2 apart there."""
    assert not bf16_is_near(module)
    assert bf16_is_near(module.first)
    module.norm.running_mean.fill_(300)
    with torch.inference_mode():
        module.filters.bias.add_(300)
        pictures = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        rough = fast_copy(module, bf16=True)(pictures.bfloat16()).float()
        assert torch.cosine_similarity(rough, module(pictures)).min() < 0.999
