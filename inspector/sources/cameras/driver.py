"""A camera library as a source needs it, and the features of a camera through it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from inspector.codec import Pixels
from inspector.errors import BadFrameError, NotConnectedError
from inspector.sources.cameras.pixels import Content, read_pixels
from inspector.sources.cameras.settings import COMMANDS, NAMES, OLD_VALUES, OPTIONAL, FeatureValue
from inspector.sources.report import ReadBack
from inspector.types import PixelFormat

_PLACE = re.compile(r" : \w+Exception thrown.*$", re.DOTALL)
_ROUNDING = 0.01
"""Share by which a number may differ that a camera rounded."""


@dataclass(frozen=True, slots=True)
class Grabbed:
    """What came of one image of the camera.

    Attributes:
        block_id: the camera's number for it; None: it numbers nothing.
        device_ns: when the camera took it, by its own clock; 0: it does not say.
        pixels: as in `Frame`, in memory that nobody writes to any more; None: it did not come whole.
        pixel_format: what they hold.
        error: why there are none.
        chunks: what the camera sent with it, of each chunk that `grab` was asked for.
    """

    block_id: int | None
    device_ns: int
    pixels: Pixels | None
    pixel_format: PixelFormat = PixelFormat.MONO8
    error: str | None = None
    chunks: tuple[int, ...] = ()


def build_grabbed(
    block_id: int | None, device_ns: int, content: Content, number: int, hw: tuple[int, int], padding: int = 0
) -> Grabbed:
    """An image that came whole, as the library says; see `read_pixels` for what it is made of."""
    try:
        return Grabbed(block_id, device_ns, *read_pixels(content, number, hw, padding))
    except BadFrameError as error:
        return Grabbed(block_id, device_ns, None, error=f"image damaged: {error}")


def add_chunks(grabbed: Grabbed, names: Sequence[str], read: Callable[[str], int]) -> Grabbed:
    """The image with the values of these features, in their order. One that lacks any of them is damaged."""
    if grabbed.error is not None or not names:
        return grabbed
    try:
        return replace(grabbed, chunks=tuple(read(name) for name in names))
    except (NotConnectedError, ValueError) as error:
        return replace(grabbed, pixels=None, error=f"image damaged: {error}")


class Driver(Protocol):
    """One camera through a library. Used by one thread."""

    def open(self) -> None:
        """Find it and take control.

        Raises:
            NotConnectedError: it is not there, or another program has it.
        """

    def has_feature(self, name: str) -> bool:
        """Whether the camera knows it."""

    def write_feature(self, name: str, value: str) -> None:
        """Set it.

        Raises:
            NotConnectedError: the camera refuses it.
        """

    def read_feature(self, name: str) -> str:
        """Its value as text.

        Raises:
            NotConnectedError: the camera refuses it.
        """

    def execute(self, name: str) -> None:
        """Give it a command.

        Raises:
            NotConnectedError: the camera refuses it.
        """

    def start(self) -> None:
        """Begin to deliver.

        Raises:
            NotConnectedError: it cannot.
        """

    def fire(self) -> None:
        """Trigger one image.

        Raises:
            NotConnectedError: it cannot.
        """

    def grab(self, timeout_s: float, chunks: Sequence[str] = ()) -> Grabbed | None:
        """The next image, whole or not; None when none came in time. `chunks`: features that must come with it.

        Raises:
            NotConnectedError: the camera is gone.
        """

    def close(self) -> None:
        """Let go of it; may come at any time, again too."""


def strip_place(message: str) -> str:
    """A message of GenApi's, which all libraries but Aravis use, without the place in its sources at the end."""
    return _PLACE.sub("", message)


def find_feature(driver: Driver, name: str) -> str | None:
    """What the camera calls a feature, see `NAMES`; None: it has none."""
    return next((each for each in NAMES.get(name, (name,)) if driver.has_feature(each)), None)


def apply_features(driver: Driver, features: Iterable[tuple[str, FeatureValue]]) -> tuple[ReadBack, ...]:
    """Write all in their order, then read all back; what is selected in the end is what they selected last.

    Raises:
        NotConnectedError: a feature is not there, or refused, or a selector has another value afterwards; says which.
    """
    selected: dict[str, FeatureValue] = {}
    written: dict[tuple[str, tuple[tuple[str, FeatureValue], ...]], FeatureValue] = {}
    for name, asked in features:
        value = asked
        found = find_feature(driver, name)
        if found is None:
            if OPTIONAL.get(name) == value:
                continue
            raise NotConnectedError(f"{name}: the camera has no such feature")
        if name in COMMANDS:
            driver.execute(found)
            continue
        if found == "GainRaw" and isinstance(value, float):
            value = round(value)  # in steps
        if found.endswith("Selector"):  # of several features of a name, it says which one is meant from now on
            _select(driver, selected, found, value)
        else:
            _write(driver, found, value)
        written[found, tuple(selected.items())] = value
    last = dict(selected)
    read = []
    for (name, selection), value in written.items():
        _select_all(driver, selected, selection)
        read.append(_read_back(driver, name, value))
    _select_all(driver, selected, last.items())
    return tuple(read)


def _select_all(
    driver: Driver, selected: dict[str, FeatureValue], selection: Iterable[tuple[str, FeatureValue]]
) -> None:
    for selector, choice in selection:
        if selected[selector] != choice:
            _select(driver, selected, selector, choice)


def _select(driver: Driver, selected: dict[str, FeatureValue], name: str, value: FeatureValue) -> None:
    _write(driver, name, value)
    if (got := _read_back(driver, name, value)).differs:
        raise NotConnectedError(f"{name}: asked for {got.asked}, the camera has {got.found}")
    selected[name] = value


def _read_back(driver: Driver, name: str, value: FeatureValue) -> ReadBack:
    found = driver.read_feature(name)
    return ReadBack(name, _to_text(value), found, not _is_same(name, value, found))


def _write(driver: Driver, name: str, value: FeatureValue) -> None:
    text = _to_text(value)
    # YAML reads Off and On as false and true, which an enumeration with these entries does not know.
    old = ("On" if value else "Off") if isinstance(value, bool) else OLD_VALUES.get(name, {}).get(text)
    try:
        try:
            driver.write_feature(name, text)
        except NotConnectedError:
            if old is None:
                raise
            driver.write_feature(name, old)
    except NotConnectedError as error:
        if name != "ChunkSelector":  # what libraries say of that one does not name the field
            raise
        raise NotConnectedError(f"chunks: the camera has no {text}: {error}") from error


def _to_text(value: FeatureValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_same(name: str, asked: FeatureValue, got: str) -> bool:
    if isinstance(asked, bool):
        return (got.strip().lower() in {"1", "true", "on"}) == asked
    if isinstance(asked, str):
        return got in {asked, OLD_VALUES.get(name, {}).get(asked)}
    try:
        number = parse_number(got)
    except ValueError:
        return False
    return abs(number - asked) <= _ROUNDING * abs(asked) if isinstance(asked, float) else number == asked


def read_ticks(name: str, text: str) -> int:
    """How many of its ticks a camera counts in a second, as feature `name` says it.

    Raises:
        NotConnectedError: with no number above 0.
    """
    try:
        ticks = int(parse_number(text))
    except ValueError:
        ticks = 0
    if ticks < 1:
        raise NotConnectedError(f"{name}: must be a number above 0, the camera has {text}")
    return ticks


def parse_number(text: str) -> float:
    """A number as a camera's library writes it: 3, 3.0 or, where the camera says so, 0x3.

    Raises:
        ValueError: it is none.
    """
    try:
        return int(text, 0)
    except ValueError:
        return float(text)
