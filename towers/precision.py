"""Ask the hardware, never assume: whether bfloat16 is fast here."""

from __future__ import annotations

import torch


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
