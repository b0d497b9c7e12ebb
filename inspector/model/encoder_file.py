"""Pretrained encoder weights as a file, for machines without network."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from inspector.errors import WeightsError
from inspector.files import compute_sha256
from inspector.model.checkpoint import save_weights
from inspector.model.encoder import Encoder, add_tag


@dataclass(frozen=True, slots=True)
class EncoderFile:
    """What was fetched: timm's name with its tag, and the file's size in bytes and SHA-256 in hex."""

    name: str
    bytes: int
    sha256: str


def fetch_encoder(backbone: str, out: Path, *, force: bool = False) -> EncoderFile:
    """Fetch a backbone's pretrained weights through timm and write what `load_encoder_weights` reads.

    Args:
        backbone: one of the nine names; a timm tag may follow, a bare name means the paper's weights.
        out: a .safetensors file; written whole or not at all. One that holds the same is left as it is.
        force: replace a file that holds something else.

    Raises:
        WeightsError: weights that cannot be fetched, an `out` of another kind or with another content.
        ValueError: unknown backbone.
    """
    if out.suffix != ".safetensors":
        raise WeightsError(f"--out: must be a .safetensors file, got {out}")
    if out.exists() and not out.is_file():
        raise WeightsError(f"--out: must be a file, got {out}")
    encoder = Encoder(backbone, pre_trained=True)
    try:
        sha256 = _write(encoder, out, force=force)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"--out: {out} cannot be written: {error}") from error
    return EncoderFile(add_tag(backbone), out.stat().st_size, sha256)


def _write(encoder: Encoder, out: Path, *, force: bool) -> str:
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        new = Path(folder) / out.name
        sha256 = save_weights(encoder.feature_extractor, new)
        if not (out.exists() and compute_sha256(out) == sha256):
            if out.exists() and not force:
                raise WeightsError(f"--out: must be new or contain the same weights (or use --force), got {out}")
            new.replace(out)
    return sha256
