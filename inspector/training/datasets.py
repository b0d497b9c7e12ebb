"""Image folders as frames, brought to the network's scale by the daemon's own preprocessing."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from inspector.codec import Pixels, decode_image
from inspector.config import Preprocessing
from inspector.detector import preprocess
from inspector.errors import BadFrameError, FrameError, TrainingError
from inspector.tiling import Tiler
from inspector.types import PixelFormat

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
_CACHE_BYTES = 4 * 1024**3


def list_images(path: Path) -> list[Path]:
    """Image files below a folder, sorted; a file is itself.

    Raises:
        TrainingError: there is no such file or folder.
    """
    if not path.exists():
        raise TrainingError(f"{path}: no such file or folder")
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)


def read_image(path: Path) -> tuple[Pixels, PixelFormat]:
    """Decode a file.

    Raises:
        BadFrameError: it cannot be read; the message names it.
    """
    try:
        return decode_image(path.read_bytes())
    except (OSError, BadFrameError) as error:
        raise BadFrameError(f"{path}: {error}") from error


def infer_preprocessing(paths: Sequence[Path], scale: float, mono16_range: tuple[int, int]) -> Preprocessing:
    """What good frames have in common: pixel format of the first, size where all agree.

    Raises:
        TrainingError: none can be read.
    """
    sizes, formats = set(), []
    for path in paths:
        try:
            pixels, pixel_format = read_image(path)
        except BadFrameError:
            continue  # named when it is loaded
        sizes.add((pixels.shape[0], pixels.shape[1]))
        formats.append(pixel_format)
    if not formats:
        raise TrainingError(f"good frames: at least one must be readable, none of {len(paths)} is")
    frame_hw = sizes.pop() if len(sizes) == 1 else None
    return Preprocessing(pixel_format=formats[0], frame_hw=frame_hw, scale=scale, mono16_range=mono16_range)


def split(paths: Sequence[Path], share: float, seed: int) -> tuple[list[Path], list[Path]]:
    """Shuffle into (training, held aside).

    Raises:
        TrainingError: fewer than 4 frames.
    """
    if len(paths) < 4:
        raise TrainingError(f"good frames: at least 4 are needed (10 or more make sense), got {len(paths)}")
    shuffled = sorted(paths)
    random.Random(seed).shuffle(shuffled)
    aside = min(max(2, round(share * len(paths))), len(paths) - 2)
    return sorted(shuffled[aside:]), sorted(shuffled[:aside])


class FrameSet:
    """Frames of a folder at the network's scale, kept in memory as far as a budget allows."""

    def __init__(self, paths: Sequence[Path], preprocessing: Preprocessing, cache_bytes: int = _CACHE_BYTES) -> None:
        """Read all frames once; the unreadable ones are named in the log and left out.

        Raises:
            TrainingError: none is left.
        """
        self._preprocessing = preprocessing
        self._cache: dict[Path, Tensor] = {}
        self.paths: list[Path] = []
        self.skipped: list[Path] = []
        self.sizes: list[tuple[int, int]] = []
        for path in paths:
            try:
                image = self._read(path)
            except FrameError as error:
                logger.warning("left out: %s", error)
                self.skipped.append(path)
                continue
            if cache_bytes >= image.nbytes:
                cache_bytes -= image.nbytes
                self._cache[path] = image
            self.paths.append(path)
            self.sizes.append((image.shape[1], image.shape[2]))
        if not self.paths:
            raise TrainingError(f"good frames: at least one must be usable, none of {len(paths)} is")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """Frame (3, h, w), [0, 255]."""
        path = self.paths[index]
        return self._cache[path] if path in self._cache else self._read(path)

    def _read(self, path: Path) -> Tensor:
        return preprocess(*read_image(path), self._preprocessing)

    def count_tiles(self, tile_size: int) -> int:
        """Tiles of a gapless grid over all frames: what one epoch means."""
        return sum(len(Tiler(tile_size, tile_size).grid(size)) for size in self.sizes)

    def draw_tiles(self, count: int, tile_size: int, generator: torch.Generator) -> Tensor:
        """`count` tiles (count, 3, t, t) from frames drawn by area, at uniform positions."""
        areas = torch.tensor([height * width for height, width in self.sizes], dtype=torch.float64)
        chosen = torch.multinomial(areas, count, replacement=True, generator=generator).tolist()
        return torch.stack([self._draw_tile(self[index], tile_size, generator) for index in chosen])

    @staticmethod
    def _draw_tile(image: Tensor, tile_size: int, generator: torch.Generator) -> Tensor:
        top, left = (
            int(torch.randint(max(1, side - tile_size + 1), (1,), generator=generator)) for side in image.shape[1:]
        )
        crop = image[:, top : top + tile_size, left : left + tile_size]
        height, width = crop.shape[1:]
        return Tiler(tile_size, tile_size).grid((height, width)).tile(crop)[0]  # pads what is smaller
