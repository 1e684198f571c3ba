"""Weights that are split over processes (FSDP), for a text encoder whose training does not fit on one device.

What is trained of the text reader's encoder is split, block by block: of each weight, its gradient and what the
optimizer knows of it a process holds its part. A block's weights are put together when it is run, and forgotten at
once. So all processes must run it equally often. All other weights are small, and every process holds them whole.

What torch has for this is imported where it is used, as that takes more than half a second and few trainings need it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh

from towers.errors import InputError
from towers.text import TextEncoder
from training.config import Recipe

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def refuse_unusable(recipe: Recipe) -> None:
    """Refuse to split weights as `accelerate launch` was told to, where that cannot be done.

    Raises:
        InputError: the launcher asks for what is not done here, or the recipe trains no text encoder.
    """
    from torch.distributed.fsdp import CPUOffloadPolicy

    plugin = FullyShardedDataParallelPlugin()  # reads the launcher's environment
    if plugin.fsdp_version != 2:
        raise InputError(f"weights are split by FSDP 2, not {plugin.fsdp_version}: set fsdp_version: 2")
    settings = {
        "fsdp_cpu_ram_efficient_loading": plugin.cpu_ram_efficient_loading,  # all but one would load no weights
        "fsdp_offload_params": isinstance(plugin.cpu_offload, CPUOffloadPolicy),
        "fsdp_activation_checkpointing": plugin.activation_checkpointing,  # train.part does what it does
    }
    for name, wanted in settings.items():
        if wanted:
            raise InputError(f"accelerate was told {name}: true, which does not work here: set it to false")
    if recipe.user.text is None or recipe.user.text.tune == 0:
        raise InputError(
            "FSDP splits the text encoder that is trained, and none is: set user.text.tune, or launch without FSDP"
        )


def split(encoder: TextEncoder, device: torch.device, *, half: bool) -> Callable[[], None]:
    """Split what is trained of an encoder over all processes, in place; what is frozen stays whole.

    Args:
        encoder: the same in every process.
        device: of this process.
        half: put together and run blocks in bfloat16; parts, gradients and what goes between blocks stay float32.

    Returns:
        What ends it: every process then has the encoder as it was built, with the weights that it has by then. All
        must call it.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    # What autocast makes of weights would be kept whole for the backward pass.
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, torch.float32) if half else MixedPrecisionPolicy()
    parts = ["embeddings", *(f"layers.{n}" for n in range(len(encoder.layers)))]
    built = {name: part for name in parts if _is_trained(part := encoder.get_submodule(name))}
    for name, part in built.items():
        own: Any = fully_shard(copy.deepcopy(part), mesh=mesh, reshard_after_forward=True, mp_policy=policy)
        own.unshard()  # once here, as what is made for it in a validation could not be trained
        own.reshard()
        encoder.set_submodule(name, own)
        part.cpu()

    def end() -> None:
        for name, part in built.items():
            part.load_state_dict(whole(encoder.get_submodule(name).state_dict()))
            encoder.set_submodule(name, part.to(device))

    return end


def _is_trained(part: nn.Module) -> bool:
    return any(weight.requires_grad for weight in part.parameters())


def start_alike(module: nn.Module) -> None:
    """Give every process the weights and buffers of the first, whole ones."""
    for value in module.state_dict().values():
        distributed.broadcast(value, 0)


def average_gradients(module: nn.Module) -> None:
    """Of weights that all processes hold whole: the mean of their gradients, None where no process has one.

    Those of split weights are averaged in the backward pass.
    """
    weights = [weight for weight in module.parameters() if weight.requires_grad and not _is_split(weight)]
    there = torch.tensor([weight.grad is not None for weight in weights]).to(weights[0])
    parts = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    flat = torch.cat([there, *(part.flatten() for part in parts)])
    distributed.all_reduce(flat)
    there, *sums = flat.split([len(weights), *(weight.numel() for weight in weights)])
    for weight, has, total in zip(weights, there.tolist(), sums, strict=True):
        weight.grad = total.view_as(weight) / distributed.get_world_size() if has else None


def whole(tensors: Mapping[str, Tensor], keep: bool = True) -> dict[str, Tensor]:
    """Tensors on the CPU, split ones put together; every process that has a part must call it.

    Args:
        tensors: by name.
        keep: False where this process does not need them.
    """
    found = {}
    for name, value in tensors.items():
        full = value.full_tensor() if _is_split(value) else value
        if keep:
            found[name] = full.detach().cpu().contiguous()
    return found


def placed(value: Tensor, like: Tensor) -> Tensor:
    """A copy of a whole tensor, on the device of `like` and split as that is."""
    value = value.to(like.device, copy=True)
    if not _is_split(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def _is_split(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether it is one of torch's distributed tensors, found out without importing them."""
    return hasattr(tensor, "full_tensor")
