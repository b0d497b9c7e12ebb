"""Reverse Distillation checkpoints of other programs: anomalib's and the official RD4AD's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from inspector.errors import CheckpointError
from inspector.model.backbones import BACKBONES, BottleneckWidth, architecture
from inspector.model.bottleneck import OneClassBottleneck
from inspector.model.decoder import Decoder
from inspector.model.inert import Inert, collect_tensors, find_module, load_inert
from inspector.model.reverse_distillation import ReverseDistillation

Tensors = dict[str, Tensor]

_ANCHOR = "bottleneck.conv1.weight"
"""A tensor every anomalib Reverse Distillation has; what stands before it is what wraps the network."""

_DEAD = ("conv4.", "bn4.", "memory")
"""Bottleneck tensors that take part in no computation; the official test script drops its memory ones, too."""

_SIGMA = 4.0
"""Of both programs; a Lightning checkpoint does not record it."""


_DEEPEST_STEP = 8
"""Compositions within compositions of pre-processing that are followed."""


class CheckpointFormat(StrEnum):
    """Whose checkpoint it is.

    ANOMALIB: a Lightning checkpoint (.ckpt), a model exported for torch (.pt), or the network's bare state dict.
    RD4AD: `bn` and `decoder` of github.com/hq-deng/RD4AD (.pth). The encoder is not in it.
    """

    ANOMALIB = "anomalib"
    RD4AD = "rd4ad"


@dataclass(frozen=True, slots=True)
class ForeignCheckpoint:
    """A checkpoint's tensors under our names, and what it says of itself; None where it says nothing.

    `normalisation` is the mean and deviation of RGB as they stand in the file, unchecked.
    """

    path: Path
    format: CheckpointFormat
    bottleneck: Tensors
    decoder: Tensors
    encoder: Tensors | None = None
    backbone: str | None = None
    anomaly_map_mode: str | None = None
    sigma: float = _SIGMA
    normalisation: tuple[Any, Any] | None = None


def load_checkpoint(path: Path, expected: CheckpointFormat | None = None) -> ForeignCheckpoint:
    """Read a checkpoint; no code in it is run.

    Args:
        path: the file.
        expected: the only format to accept; None: whichever it is.

    Raises:
        CheckpointError: unreadable, unsafe, or no checkpoint of Reverse Distillation.
    """
    content = load_inert(path)
    if isinstance(content, dict) and isinstance(content.get("bn"), dict) and isinstance(content.get("decoder"), dict):
        checkpoint = _read_rd4ad(path, content)
    elif isinstance(content, dict) and isinstance(content.get("model"), Inert):
        checkpoint = _read_export(path, content["model"])
    else:
        checkpoint = _read_state(path, content)
    if expected not in (None, checkpoint.format):
        raise CheckpointError(f"{path}: --format: must be {checkpoint.format}, the format of the file, got {expected}")
    return checkpoint


def _read_rd4ad(path: Path, content: dict[str, Any]) -> ForeignCheckpoint:
    bottleneck, decoder = (_under(content[part], "") for part in ("bn", "decoder"))
    # The official evaluation adds the layers up; the file says nothing of it.
    return ForeignCheckpoint(
        path, CheckpointFormat.RD4AD, _drop_dead(bottleneck), decoder, anomaly_map_mode="add", sigma=_SIGMA
    )


def _read_export(path: Path, model: Inert) -> ForeignCheckpoint:
    generator = find_module(model, "model", "anomaly_map_generator").state
    sigma = generator.get("sigma")
    return _build_anomalib(
        path,
        dict(collect_tensors(model)),
        backbone=model.state.get("backbone"),
        anomaly_map_mode=generator.get("mode"),
        sigma=float(sigma) if isinstance(sigma, int | float) else _SIGMA,
        normalisation=_find_normalisation(find_module(model, "pre_processor")),
    )


def _read_state(path: Path, content: Any) -> ForeignCheckpoint:
    content = content if isinstance(content, dict) else {}
    state, said = content.get("state_dict", content), content.get("hyper_parameters")
    state, said = (part if isinstance(part, dict) else {} for part in (state, said))
    return _build_anomalib(
        path,
        state,
        backbone=said.get("backbone"),
        anomaly_map_mode=said.get("anomaly_map_mode"),
        sigma=_SIGMA,
        normalisation=_find_normalisation(content.get("anomalib_pre_processor_config")),
    )


def _find_normalisation(step: Any, depth: int = 0) -> tuple[Any, Any] | None:
    """Mean and deviation in anomalib's pre-processing, as pickled modules or as their configuration."""
    if isinstance(step, Inert):
        step = step.state
    if not isinstance(step, dict) or depth > _DEEPEST_STEP:
        return None
    if "mean" in step and "std" in step:
        return step["mean"], step["std"]
    inner = [step.get(key) for key in ("_modules", "transform", "init_args")]
    listed = step.get("transforms")
    inner += listed if isinstance(listed, list) else []
    return next((found for part in inner if (found := _find_normalisation(part, depth + 1))), None)


def _build_anomalib(
    path: Path,
    state: Mapping[Any, Any],
    *,
    backbone: Any,
    anomaly_map_mode: Any,
    sigma: float,
    normalisation: tuple[Any, Any] | None,
) -> ForeignCheckpoint:
    prefix = next((str(key).removesuffix(_ANCHOR) for key in state if str(key).endswith(_ANCHOR)), None)
    if prefix is None:
        raise CheckpointError(
            f"{path}: must contain Reverse Distillation of anomalib ('state_dict' or 'model' with {_ANCHOR}) or "
            "of RD4AD "
            f"('bn' and 'decoder'), got neither"
        )
    if isinstance(anomaly_map_mode, Inert):  # an enumeration's member is pickled as its class and its value
        anomaly_map_mode = next(iter(anomaly_map_mode.args), None)
    return ForeignCheckpoint(
        path,
        CheckpointFormat.ANOMALIB,
        _drop_dead(_under(state, f"{prefix}bottleneck.")),
        _under(state, f"{prefix}decoder."),
        _under(state, f"{prefix}encoder.feature_extractor."),
        backbone if isinstance(backbone, str) else None,
        anomaly_map_mode if isinstance(anomaly_map_mode, str) else None,
        sigma,
        normalisation,
    )


def _under(state: Mapping[Any, Any], prefix: str) -> Tensors:
    named = ((str(key), value) for key, value in state.items() if isinstance(value, Tensor))
    return {key.removeprefix(prefix): value for key, value in named if key.startswith(prefix)}


def _drop_dead(bottleneck: Tensors) -> Tensors:
    return {key: value for key, value in bottleneck.items() if not key.startswith(_DEAD)}


def find_architecture(checkpoint: ForeignCheckpoint, backbone: str | None = None) -> tuple[str, BottleneckWidth]:
    """The backbone and bottleneck width whose student has exactly the checkpoint's tensors.

    Args:
        checkpoint: as loaded.
        backbone: the only one to accept (a timm tag may follow); None: the one the checkpoint names, or any.

    Returns:
        The backbone, with the tag it was named with, and the width, official where both are the same.

    Raises:
        CheckpointError: no network fits, or the backbone named is none of ours.
    """
    named = backbone or checkpoint.backbone
    try:
        names = [architecture(named)] if named else list(BACKBONES)
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.path}: {error}") from error
    shapes = _shapes(checkpoint.bottleneck), _shapes(checkpoint.decoder)
    for name in names:
        for width in BottleneckWidth:
            with torch.device("meta"):
                parts: tuple[nn.Module, nn.Module] = OneClassBottleneck(name, width), Decoder(name, width)
            if shapes == (_shapes(parts[0].state_dict()), _shapes(parts[1].state_dict())):
                return named or name, width
    raise CheckpointError(
        f"{checkpoint.path}: its {len(shapes[0])} bottleneck and {len(shapes[1])} decoder tensors must have the names "
        f"and shapes of {named or 'one of ' + ', '.join(BACKBONES)}, got others"
    )


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


def fill_network(model: ReverseDistillation, checkpoint: ForeignCheckpoint) -> None:
    """Copy the checkpoint's weights into a network of its architecture; the encoder's too, where it holds one.

    Raises:
        CheckpointError: an encoder's tensor is missing, too many or of another shape.
    """
    if checkpoint.encoder is not None:
        encoder = model.encoder.feature_extractor
        wrong = sorted(_shapes(encoder.state_dict()).items() ^ _shapes(checkpoint.encoder).items())
        if wrong:
            raise CheckpointError(
                f"{checkpoint.path}: its encoder must have the tensors of the backbone, got {len(wrong)} differences "
                f"(first: {wrong[0][0]})"
            )
        encoder.load_state_dict(checkpoint.encoder)
    model.bottleneck.load_state_dict(checkpoint.bottleneck)
    model.decoder.load_state_dict(checkpoint.decoder)
