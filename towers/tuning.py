"""How much of a pretrained encoder is trained: nothing, its top blocks, low-rank additions to all of them, or all."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from towers.encoders.contract import Encoder
from towers.errors import InputError, MissingExtraError

Tune = Annotated[int | Literal["lora", "all"], Field(union_mode="left_to_right")]
"""0 (frozen), a number of upper blocks, "lora" (low-rank additions to all blocks, arXiv 2106.09685) or "all"."""

RANK, SCALE = 8, 16  # of the additions; SCALE / RANK multiplies them
# Take torch's attention apart: they multiply with its weights and call its last matrix, so that nothing put beside the
# whole of it would ever be used.
TAKE_APART = ("WavLMSelfAttention",)


def let_train(encoder: Encoder, tune: Tune) -> Callable[[], None]:
    """Let so much of an encoder be trained, in place.

    Returns:
        What ends it: low-rank additions become part of the weights they were added to, and all is frozen again.

    Raises:
        InputError: more blocks than there are.
        MissingExtraError: "lora" without the library that it needs.
    """
    encoder.requires_grad_(tune == "all")
    merge = add_low_rank(encoder, encoder.blocks) if tune == "lora" else None
    if isinstance(tune, int):
        for block in top_blocks(encoder.blocks, tune):
            block.requires_grad_(True)

    def end() -> None:
        if merge is not None:
            merge()
        encoder.requires_grad_(False).eval()

    return end


def top_blocks(blocks: list[nn.Module], count: int) -> list[nn.Module]:
    """The `count` upper ones.

    Raises:
        InputError: there are fewer.
    """
    if not 0 <= count <= len(blocks):
        raise InputError(
            f"the encoder has {len(blocks)} blocks, {count} cannot be fine-tuned; give 0 to {len(blocks)}, "
            "'lora' or 'all'"
        )
    return blocks[len(blocks) - count :]


def add_low_rank(encoder: nn.Module, blocks: list[nn.Module]) -> Callable[[], None]:
    """Freeze an encoder and put trainable low-rank matrices beside those of its blocks; at first they change nothing.

    Returns:
        What merges them into the weights and leaves the encoder as it was built.

    Raises:
        MissingExtraError: the library for it is not installed.
    """
    try:
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel
    except ImportError as error:
        raise MissingExtraError("tune = 'lora' needs peft: pip install 'twotower[lora]'") from error
    whole = nn.ModuleDict({"encoder": encoder})  # peft would take an attribute `config` of its own for transformers'
    names = "|".join(re.escape(f"encoder.{name}") for name in _matrices(encoder, blocks))
    adapted = LoraModel(whole, LoraConfig(r=RANK, lora_alpha=SCALE, target_modules=names), "default")

    def merge() -> None:
        adapted.merge_and_unload()

    return merge


def _matrices(encoder: nn.Module, blocks: list[nn.Module]) -> list[str]:
    """Names of what multiplies with a matrix inside the blocks.

    Attention of torch's own is one, with all its parts, unless its owner takes it apart.
    """
    inside = {id(part) for block in blocks for part in block.modules()}
    names: list[str] = []
    for name, part in encoder.named_modules():
        owner = type(encoder.get_submodule(name.rpartition(".")[0])).__name__
        attention = isinstance(part, nn.MultiheadAttention) and owner not in TAKE_APART
        whole = isinstance(part, nn.Linear) or attention
        full = isinstance(part, nn.Conv1d | nn.Conv2d) and part.groups == 1
        nested = any(name.startswith(f"{other}.") for other in names)
        if id(part) in inside and (whole or full) and not nested:
            names.append(name)
    return names
