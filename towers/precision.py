"""Ask the hardware, never assume: whether bfloat16 is fast here, and weights as the hardware likes them."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

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


def autocast_for(module: nn.Module) -> torch.autocast:
    """The same for inference by a module that is on its device, where `bf16_is_near` too."""
    device = next(module.parameters()).device
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16_is_fast(device) and bf16_is_near(module))


def bf16_is_near(module: nn.Module) -> bool:
    """Whether vectors in bfloat16 are near those in float32.

    Batch normalisation takes away means far larger than what is left, which rounding has hidden by then.
    """
    return not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())


def at_least_single(values: Tensor) -> Tensor:
    """Half precision as single precision, in which sums and norms are safe; others as they are."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def fast_copy(module: Module, *, bf16: bool) -> Module:
    """A copy for inference; what does not change is shared.

    Filters over several channels lie channels last, which convolutions read faster.

    Args:
        module: in evaluation mode.
        bf16: whether to round all weights to bfloat16, so that inputs in bfloat16 are computed with as they are. Beside
            autocast nothing is converted batch after batch, and attention keeps its fast kernels.
    """
    dtype = torch.bfloat16 if bf16 else None
    copies: dict[int, Any] = {id(one): _fast(one, dtype) for one in module.buffers()}
    copies |= {id(one): nn.Parameter(_fast(one.detach(), dtype), requires_grad=False) for one in module.parameters()}
    return copy.deepcopy(module, copies)  # which takes these for the originals


def _fast(weight: Tensor, dtype: torch.dtype | None) -> Tensor:
    layout = torch.channels_last if weight.ndim == 4 and weight.shape[1] > 1 else torch.preserve_format
    return weight.to(dtype if dtype and weight.is_floating_point() else weight.dtype, memory_format=layout)
