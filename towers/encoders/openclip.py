"""Pictures to vectors: any OpenCLIP model, or a small ImageNet trunk for where no model hub can be reached."""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import open_clip
import torch
from jaxtyping import Float
from open_clip.transform import PreprocessCfg, image_transform_v2
from timm.data import ImageNetInfo
from torch import Tensor, nn
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from towers.artefact import read_json, write_json
from towers.encoders.contract import Classes, Encoder
from towers.errors import InputError, WeightsError
from towers.pictures import read_picture
from towers.weights import REGISTRY, fetch

SHAPE_FILE = "openclip.json"
FORMS = (
    "ARCHITECTURE/TAG such as ViT-B-32/laion2b_s34b_b79k, ARCHITECTURE/CHECKPOINT-FILE, hf-hub:ORG/NAME, "
    "a folder with open_clip_config.json, or efficientnet-lite0"
)
STAND_IN = "efficientnet-lite0"
STAND_IN_SHAPE: dict[str, Any] = {
    "model": {
        "embed_dim": 1280,
        "quick_gelu": False,
        "vision_cfg": {
            "timm_model_name": "tf_efficientnet_lite0",
            "timm_pool": "avg",
            "timm_proj": "none",  # an untrained projection would only blur what the trunk has learned
            "image_size": 224,
        },
    },
    "preprocess": {
        "resize": 256,  # the shorter side, before the middle is cut out
        "size": 224,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
    },
}
NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}


class OpenClip(Encoder):
    """Pictures to vectors ``(B, D)``, before any normalisation, by the image tower of an OpenCLIP model.

    The text tower is no part of it: `encode_texts` reads it when it is asked for.

    Args:
        config: its `source` is one of `FORMS`.
        visual: OpenCLIP's image tower.
        shape: ``{"model": …, "preprocess": …}``, JSON from which the tower and its preprocessing can be built again.
    """

    modality = "image"

    def __init__(self, *, config: Any, visual: nn.Module, shape: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        self.visual = visual
        self.shape = shape
        self.preprocess = _preprocessing(shape["preprocess"])
        self._text_side: tuple[Any, Callable] | None = None

    @classmethod
    def load(cls, config: Any, *, weights: Path | None = None) -> Self:
        """A pretrained encoder.

        Args:
            config: its `source` is one of `FORMS`. A checkpoint file is read with OpenCLIP's usual preprocessing; a
                folder states its own.
            weights: folder to look in for `efficientnet-lite0` before it is downloaded.

        Raises:
            InputError: no such architecture, tag or file; the nearest ones are named.
            WeightsError: the weights could not be had, or do not fit.
        """
        if config.source == STAND_IN:
            visual = _visual_of(STAND_IN_SHAPE["model"])
            _fill_stand_in(visual, fetch(STAND_IN, folder=weights))
            return cls(config=config, visual=visual, shape=STAND_IN_SHAPE).eval()
        name, pretrained = _names_of(config.source)
        visual = _read_model(config.source).visual
        shape = {"model": _shape_of(name, pretrained), "preprocess": visual.preprocess_cfg}
        return cls(config=config, visual=visual, shape=shape).eval()

    @classmethod
    def empty(cls, config: Any, folder: Path) -> Self:
        """The architecture that `save_shape` wrote, its weights not loaded yet."""
        shape = read_json(folder / SHAPE_FILE)
        return cls(config=config, visual=_visual_of(shape["model"]), shape=shape).eval()

    def save_shape(self, folder: Path) -> None:
        """Write architecture and preprocessing into an existing `folder`."""
        write_json(folder / SHAPE_FILE, self.shape)

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return int(self.shape["model"]["embed_dim"])

    def classes(self, *, weights: Path | None = None) -> Classes | None:
        """The thousand of ImageNet, where it is the stand-in."""
        if self.config.source != STAND_IN:
            return None
        *_, weight, bias = _stored(fetch(STAND_IN, folder=weights))
        known = ImageNetInfo()
        names = [known.index_to_description(number).partition(",")[0] for number in range(len(bias))]
        return Classes(names, weight, bias, exclusive=True)

    def prepare(self, content: Path | bytes) -> Float[Tensor, "3 h w"]:
        """A picture as the model's own preprocessing makes it.

        Raises:
            MediaError: it cannot be read.
        """
        return self.preprocess(read_picture(content))

    def encode(self, prepared: Sequence[Float[Tensor, "3 h w"]]) -> Float[Tensor, "b d"]:
        """The vectors of B prepared pictures."""
        vectors = self.visual(torch.stack(list(prepared)).to(self.device))
        return vectors[0] if isinstance(vectors, tuple) else vectors  # CoCa's tower gives its tokens, too

    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        """The vectors of B texts in the space of the pictures, before any normalisation.

        The first call reads the model's text tower from `config.source`; it is neither saved nor fine-tuned.

        Raises:
            InputError: the model was trained on pictures alone.
            WeightsError: the source cannot be found or read.
        """
        if self.config.source == STAND_IN:
            raise InputError(
                f"{STAND_IN} was trained on pictures alone and reads no text: choose an OpenCLIP model for this"
            )
        if self._text_side is None:
            name, _ = _names_of(self.config.source)
            model = _read_model(self.config.source).eval().requires_grad_(False)
            del model.visual
            self._text_side = model, _tokenizer_of(name)
        model, tokenize = self._text_side
        return model.to(self.device).encode_text(tokenize(list(texts)).to(self.device), normalize=False)

    @property
    def blocks(self) -> list[nn.Module]:
        """Transformer blocks or stages of convolutions, from the input upward."""
        trunk: Any = getattr(self.visual, "trunk", self.visual)  # OpenCLIP wraps a model of timm
        if hasattr(trunk, "transformer"):
            return list(trunk.transformer.resblocks)
        for name in ("stages", "blocks", "layers"):
            if isinstance(part := getattr(trunk, name, None), nn.Sequential | nn.ModuleList):
                return list(part)
        layers = [getattr(trunk, f"layer{n}", None) for n in range(1, 5)]
        return [layer for layer in layers if layer is not None] or [trunk]

    @property
    def reading(self) -> str:
        """Architecture and preprocessing as JSON."""
        return json.dumps(self.shape, sort_keys=True)


def _preprocessing(facts: dict[str, Any]) -> Callable:
    """OpenCLIP's own preprocessing; where ``resize`` is stated, the middle is cut out of a larger picture."""
    usual = image_transform_v2(PreprocessCfg(**{k: v for k, v in facts.items() if k != "resize"}), is_train=False)
    if "resize" not in facts:
        return usual
    return Compose([Resize(facts["resize"], InterpolationMode.BICUBIC), CenterCrop(facts["size"]), usual])


def _visual_of(model: dict[str, Any]) -> nn.Module:
    """An image tower without its weights; the text tower beside it is as small as can be, and dropped."""
    return open_clip.CLIP(**model, text_cfg=NO_TEXT).visual


def _fill_stand_in(visual: Any, folder: Path) -> None:
    """Load the file's tensors: those of timm's trunk in the same order under other names, then a classifier's."""
    values = _stored(folder)
    own = visual.trunk.state_dict()
    values = values[: len(own)]
    if [value.shape for value in values] != [value.shape for value in own.values()]:
        raise WeightsError(f"the installed timm builds {STAND_IN} in another way than its weights in {folder} need")
    visual.trunk.load_state_dict(dict(zip(own, values, strict=True)))


def _stored(folder: Path) -> list[Tensor]:
    return list(torch.load(folder / REGISTRY[STAND_IN].files[0].name, map_location="cpu", weights_only=True).values())


def _names_of(source: str) -> tuple[str, str | None]:
    """What OpenCLIP calls a source: the model's name and, where that does not hold it, the pretrained weights."""
    if source.startswith("hf-hub:"):
        return source, None
    folder = Path(source.removeprefix("local-dir:")).expanduser()
    if (folder / "open_clip_config.json").is_file():
        return f"local-dir:{folder}", None
    if folder.is_dir() or source.startswith(("local-dir:", "/", "~", ".")):
        raise InputError(f"{folder} is no folder with open_clip_config.json and weights; a picture encoder is {FORMS}")
    name, _, pretrained = source.partition("/")
    if name not in open_clip.list_models():
        near = difflib.get_close_matches(name, open_clip.list_models(), n=3, cutoff=0.5)
        hint = f", near are {', '.join(near)}" if near else ""
        raise InputError(f"OpenCLIP knows no architecture {name!r}{hint}; a picture encoder is {FORMS}")
    if open_clip.get_pretrained_cfg(name, pretrained):
        return name, pretrained
    if (path := Path(pretrained).expanduser()).is_file():
        return name, str(path)
    known = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
    what = f"{pretrained!r} is neither a tag of {name} nor a file" if pretrained else f"{source!r} names no weights"
    raise InputError(f"{what}; known tags of {name}: {known}")


def _read_model(source: str) -> Any:
    """The whole OpenCLIP model, weights loaded."""
    name, pretrained = _names_of(source)
    quick = _has_quick_gelu(name, pretrained)
    try:
        with _quiet():
            return open_clip.create_model(name, pretrained, force_quick_gelu=quick, require_pretrained=True)
    except Exception as error:  # the hub, torch, safetensors and open_clip each raise their own
        raise WeightsError(
            f"no picture encoder could be loaded from {source!r} ({_first_line(error)}); check the name and the files, "
            f"and that the model hub can be reached, or choose {STAND_IN}"
        ) from error


def _has_quick_gelu(name: str, pretrained: str | None) -> bool:
    """Whether the tag's weights were trained with QuickGELU, which OpenCLIP's architecture may not say."""
    return pretrained is not None and bool(open_clip.get_pretrained_cfg(name, pretrained).get("quick_gelu"))


def _shape_of(name: str, pretrained: str | None) -> dict[str, Any]:
    """What of a model's configuration builds its image tower."""
    facts = open_clip.get_model_config(name)
    return {
        "embed_dim": facts["embed_dim"],
        "quick_gelu": bool(facts.get("quick_gelu")) or _has_quick_gelu(name, pretrained),
        "vision_cfg": {**facts["vision_cfg"], "timm_model_pretrained": False},
    }


def _tokenizer_of(name: str) -> Callable:
    try:
        with _quiet():
            return open_clip.get_tokenizer(name)
    except Exception as error:  # as above
        raise WeightsError(f"the tokenizer of {name} could not be loaded ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300].rstrip(".:")


@contextmanager
def _quiet() -> Iterator[None]:
    """Show OpenCLIP's log only where the program has set up logging; otherwise it would set up the root logger."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
