"""The encoder (teacher): a frozen ImageNet ResNet whose first three stages are read."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from inspector.errors import WeightsError
from inspector.model.backbones import architecture

logger = logging.getLogger(__name__)

LAYERS = ("layer1", "layer2", "layer3")
"""The stages read, in the paper and in every implementation: the bottleneck fuses exactly these three."""

PAPER_TAG = "tv_in1k"
"""timm's tag of torchvision's first ImageNet weights, the ones the paper used; a bare name means these."""

PRETRAINED = "pretrained"
NO_WEIGHTS = "none"


class Encoder(nn.Module):
    """Stages 1 to 3 of a timm ResNet. Always in eval mode, never trained."""

    def __init__(self, backbone: str, layers: Sequence[str] = LAYERS, *, pre_trained: bool = True) -> None:
        """Build it.

        Args:
            backbone: one of the nine names; a timm tag may follow (`wide_resnet50_2.tv_in1k`).
            layers: must be layer1, layer2, layer3.
            pre_trained: fetch timm's ImageNet weights (the paper's where no tag is given). False leaves the
                encoder random: follow with `load_encoder_weights` or a whole checkpoint.

        Raises:
            ValueError: unknown backbone, other layers.
            WeightsError: pretrained weights cannot be fetched.
        """
        super().__init__()
        if tuple(layers) != LAYERS:
            raise ValueError(f"layers: must be {list(LAYERS)} (the bottleneck fuses these three), got {list(layers)}")
        name = add_tag(backbone) if pre_trained else architecture(backbone)
        self.feature_extractor = _build(name, pre_trained=pre_trained)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Encoder:
        """Stay in eval mode: the teacher's BatchNorm statistics are part of what is distilled."""
        del mode
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of `images` (B, 3, H, W): three tensors at 1/4, 1/8 and 1/16 of the size."""
        return list(self.feature_extractor(images))


def add_tag(backbone: str) -> str:
    """The timm model whose pretrained weights a name means: the paper's where it has no tag.

    Raises:
        ValueError: unknown backbone.
    """
    name = architecture(backbone)
    return backbone if "." in backbone else f"{name}.{PAPER_TAG}"


def _build(name: str, *, pre_trained: bool) -> nn.Module:
    import timm  # takes 2 s, and a station whose network is compiled already never builds one

    # A random encoder with timm's zero-initialised residual branches would be a stack of shortcuts.
    options = {} if pre_trained else {"zero_init_last": False}
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # without network it warns of each of ten attempts
    if pre_trained:
        logger.info(
            "encoder weights: %s, from this PC or else the network; without a network this fails in a minute", name
        )
    try:
        model: nn.Module = timm.create_model(
            name, pretrained=pre_trained, features_only=True, out_indices=(1, 2, 3), **options
        )
    except Exception as error:  # timm lets whatever its hub client raises through
        if not pre_trained:
            raise
        raise WeightsError(
            f"encoder weights: {name!r} could not be fetched ({type(error).__name__}: {error}); "
            "without a network, run `inspector encoder fetch` on a machine that has one and give the file "
            "(--encoder-weights FILE)"
        ) from error
    return model


def load_encoder_weights(encoder: Encoder, weights: str | Path) -> None:
    """Fill a random encoder from a local file of timm/torchvision ResNet weights.

    Args:
        encoder: built with pre_trained=False.
        weights: a .pth/.pt file (read with weights_only, so nothing in it is executed) or .safetensors, or
            `none`: keep the random weights, with a warning that says what it costs.

    Raises:
        WeightsError: the file is missing, unreadable or of another architecture.
    """
    if str(weights) == NO_WEIGHTS:
        warnings.warn(
            "encoder weights: none. A random encoder sees texture and contrast but no learned features: "
            "it will miss subtle defects. Use it only to try out the software; use ImageNet weights in production.",
            stacklevel=2,
        )
        return
    path = Path(weights)
    state = _read_state(path)
    wanted = encoder.feature_extractor.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    wrong = [key for key in state if key.startswith(LAYERS) and key not in wanted]  # a larger model of the family
    wrong += [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    if missing or wrong:
        raise WeightsError(
            f"encoder weights: {path} does not fit the backbone: {len(missing)} tensors missing "
            f"(first: {missing[:1]}), {len(wrong)} unexpected or of another shape (first: {wrong[:1]})"
        )
    used = {key: value for key, value in state.items() if key in wanted}
    encoder.feature_extractor.load_state_dict(used, strict=False)


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds here; each means: this file cannot be used
        raise WeightsError(f"encoder weights: cannot read {path} ({type(error).__name__}: {error})") from error
    state: Any = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"encoder weights: {path} must contain a dictionary of tensors, got {type(state).__name__}")
    return dict(state)
