"""Ask the hardware, never assume: whether bfloat16 is fast here, and weights as the hardware likes them."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def bf16_is_fast(device: torch.device) -> bool:
    """True where the device multiplies bfloat16 matrices in hardware.

    A CPU needs AVX-512 BF16, AMX or the Arm equivalent; without them bfloat16 is emulated and slower
    than float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        has = torch.cpu.get_capabilities()
        return any(has.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 autocast for training where it is fast, a context that does nothing elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16_is_fast(device))


def fast_copy(module: Module, *, bf16: bool) -> Module:
    """A copy for inference whose weights need no conversion batch after batch; what does not change is shared.

    Filters over two dimensions lie channels last, which convolutions read faster. Biases, scales and statistics keep
    their precision.

    Args:
        module: in evaluation mode.
        bf16: it is going to run in bfloat16 autocast, so matrices and filters are rounded now.
    """
    weights = {id(one): nn.Parameter(_fast(one.detach(), bf16), requires_grad=False) for one in module.parameters()}
    return copy.deepcopy(module, weights)  # which takes these for the originals


def _fast(weight: Tensor, bf16: bool) -> Tensor:
    layout = torch.channels_last if weight.ndim == 4 else torch.preserve_format
    return weight.to(torch.bfloat16 if bf16 and weight.ndim > 1 else weight.dtype, memory_format=layout)
