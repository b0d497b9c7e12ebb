"""Image folders as frames, brought to the network's scale by the daemon's own preprocessing."""

from __future__ import annotations

import contextlib
import copy
import logging
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from torch import Tensor

from inspector.codec import IMAGE_SUFFIXES, Pixels, decode_image
from inspector.config import Preprocessing
from inspector.detection.fixture import Fixture
from inspector.detection.looks import Look, compute_look
from inspector.detection.preprocessing import preprocess
from inspector.errors import BadFrameError, FrameError, TrainingError
from inspector.files import read_whole
from inspector.types import PixelFormat

logger = logging.getLogger(__name__)

FULL_RANGE = (0, 65_535)
"""All that 16 bits hold."""


def choose_cache_bytes() -> int:
    """Half of the memory that is free now, the control group's limit respected."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    with contextlib.suppress(OSError, ValueError):  # no such file, or no limit: "max"
        free = min(free, int(limit.read_text(encoding="ascii")) - int(used.read_text(encoding="ascii")))
    return max(0, free // 2)


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
        BadFrameError: it cannot be read, or changed meanwhile; the message names it.
    """
    try:
        return decode_image(read_whole(path))
    except (OSError, BadFrameError) as error:
        raise BadFrameError(f"{path}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Seen:
    """A good frame that could be read. `look` waits, None, where what is white in 16 bits is yet to be found."""

    pixel_format: PixelFormat
    highest: int
    look: Look | None


def survey(
    paths: Sequence[Path],
    scale: float,
    mono16_range: tuple[int, int] | None,
    resize_hw: tuple[int, int] | None = None,
    short_side: int | None = None,
) -> tuple[Preprocessing, dict[Path, Look]]:
    """What good frames have in common, and what each that can be used shows; the others are named in the log.

    The pixel format is the one most of them have; the size is stated where all agree. `mono16_range` None: see
    `choose_mono16_range`.

    Raises:
        TrainingError: none can be read, or an option breaks a rule.
    """
    found = _see(paths, mono16_range)
    if not found:
        raise TrainingError(f"good frames: at least one must be readable, none of {len(paths)} is")
    common = Counter(seen.pixel_format for seen in found.values()).most_common(1)[0][0]
    for path in [path for path, seen in found.items() if seen.pixel_format is not common]:
        got = found.pop(path).pixel_format
        logger.warning("left out: %s: pixel format must be %s as in most frames, got %s", path, common, got)
    if common is PixelFormat.MONO16:
        mono16_range = choose_mono16_range(max(seen.highest for seen in found.values()), mono16_range)
    mono16_range = mono16_range or FULL_RANGE
    looks = _complete(found, mono16_range)
    sizes = {look.frame_hw for look in looks.values()}
    frame_hw = sizes.pop() if len(sizes) == 1 else None
    try:
        preprocessing = Preprocessing(
            pixel_format=common,
            frame_hw=frame_hw,
            scale=scale,
            resize_hw=resize_hw,
            short_side=short_side,
            mono16_range=mono16_range,
        )
    except ValidationError as error:
        fault = error.errors()[0]
        received = f", got {fault['input']}" if fault["loc"] else ""  # a rule between fields names the values itself
        raise TrainingError(f"options: {fault['msg'].removeprefix('Value error, ')}{received}") from error
    return preprocessing, looks


def _see(paths: Sequence[Path], mono16_range: tuple[int, int] | None) -> dict[Path, _Seen]:
    found = {}
    for path in paths:
        try:
            pixels, pixel_format = read_image(path)
        except BadFrameError as error:
            logger.warning("left out: %s", error)
            continue
        must_wait = pixel_format is PixelFormat.MONO16 and mono16_range is None
        look = None if must_wait else compute_look(pixels, pixel_format, mono16_range or FULL_RANGE)
        found[path] = _Seen(pixel_format, int(pixels.max()), look)
    return found


def choose_mono16_range(highest: int, wanted: tuple[int, int] | None) -> tuple[int, int]:
    """What is black and white in frames of 16 bits; the log says so.

    Cameras of 10, 12 or 14 bits leave the upper bits empty: taken for 16 bits, their frames are all but black.

    Args:
        highest: value in the good frames.
        wanted: by the user; else black is 0, and white the highest value of 10, 12, 14 or 16 bits, the fewest that
            hold `highest`.
    """
    if wanted is not None:
        if highest > wanted[1]:
            logger.warning(
                "--mono16-range: white is %d, and values up to %d are all treated as white", wanted[1], highest
            )
        return wanted
    bits = next(bits for bits in (10, 12, 14, 16) if highest < 2**bits)
    logger.info(
        "16-bit frames: the highest value is %d, so %d bits are assumed (mono16_range 0 to %d); "
        "--mono16-range sets another range", highest, bits, 2**bits - 1,
    )  # fmt: skip
    return 0, 2**bits - 1


def _complete(found: Mapping[Path, _Seen], mono16_range: tuple[int, int]) -> dict[Path, Look]:
    """Every frame's look; those that waited are read again."""
    looks = {}
    for path, seen in found.items():
        try:
            looks[path] = seen.look or compute_look(*read_image(path), mono16_range)
        except BadFrameError as error:
            logger.warning("left out: %s", error)
    return looks


@dataclass(frozen=True, slots=True)
class Split:
    """Good frames by what they are for; no frame is in two."""

    training: list[Path]
    validation: list[Path]
    calibration: list[Path]


def split(
    paths: Sequence[Path], calibration: float, validation: float, seed: int, groups: Mapping[Path, str] | None = None
) -> Split:
    """Split frames at random.

    Args:
        paths: the frames.
        calibration: share of them, at least 2; 0: none.
        validation: share of them, at least 1.
        seed: of the choice.
        groups: frames of a group stay together, where given.

    Raises:
        TrainingError: too few frames or groups to have some of each.
    """
    if len(paths) < 4:
        raise TrainingError(f"good frames: at least 4 are needed (10 or more are recommended), got {len(paths)}")
    units = shuffle_groups(paths, seed, groups)
    least = 3 if calibration else 2
    if len(units) < least:
        raise TrainingError(f"groups: at least {least} are needed to hold some out, got {sorted(units)}")
    names = list(units)
    parts: list[list[Path]] = []
    kept = max(2, round(calibration * len(paths))) if calibration else 0
    for wanted in (kept, max(1, round(validation * len(paths)))):
        part: list[Path] = []
        while len(part) < wanted and len(names) > 1 + (not parts):  # one for each part that is still to come
            part += units[names.pop(0)]
        parts.append(sorted(part))
    if calibration and len(parts[0]) < 2:
        raise TrainingError(f"groups: at least 2 frames must be left to calibrate on, got {parts[0]}; try another seed")
    return Split(sorted(path for name in names for path in units[name]), parts[1], parts[0])


def shuffle_groups(paths: Sequence[Path], seed: int, groups: Mapping[Path, str] | None = None) -> dict[str, list[Path]]:
    """Frames by group, the groups in random order; without `groups` each frame is one."""
    units: dict[str, list[Path]] = {}
    for path in sorted(paths):
        units.setdefault(groups[path] if groups else str(path), []).append(path)
    names = list(units)
    random.Random(seed).shuffle(names)
    return {name: units[name] for name in names}


class FrameSet:
    """Frames of a folder at the network's scale, kept in memory as far as a budget allows."""

    def __init__(
        self,
        paths: Sequence[Path],
        preprocessing: Preprocessing,
        cache_bytes: int | None = None,
        fixture: Fixture | None = None,
    ) -> None:
        """Read all frames once; the unreadable ones are named in the log and left out.

        Args:
            paths: image files.
            preprocessing: what they must be, and their scale.
            cache_bytes: memory for frames that stay decoded; by default what `choose_cache_bytes` says.
            fixture: what frames are warped onto; those that do not fit are left out. None: they stay as they lie.

        Raises:
            TrainingError: none is left.
        """
        cache_bytes = choose_cache_bytes() if cache_bytes is None else cache_bytes
        self._preprocessing = preprocessing
        self._fixture = fixture
        self._cache: dict[Path, Tensor] = {}
        self.paths: list[Path] = []
        self.sizes: list[tuple[int, int]] = []
        for path in paths:
            try:
                image = self._read(path)
            except FrameError as error:
                logger.warning("left out: %s", error)
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

    def select(self, paths: Collection[Path]) -> FrameSet:
        """Some of the frames, in memory that is shared with these.

        Raises:
            TrainingError: none is left.
        """
        chosen = [number for number, path in enumerate(self.paths) if path in paths]
        if not chosen:
            raise TrainingError(f"good frames: at least one must be usable, none of {len(paths)} is")
        part = copy.copy(self)
        part.paths, part.sizes = [self.paths[n] for n in chosen], [self.sizes[n] for n in chosen]
        return part

    @property
    def all_cached(self) -> bool:
        """Whether no frame has to be decoded again."""
        return all(path in self._cache for path in self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """Frame (3, h, w), [0, 255]."""
        path = self.paths[index]
        return self._cache[path] if path in self._cache else self._read(path)

    def _read(self, path: Path) -> Tensor:
        return preprocess(*read_image(path), self._preprocessing, self._fixture)
