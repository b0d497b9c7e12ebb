"""A camera library as a source needs it, and the features of a camera through it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from inspector.errors import NotConnectedError
from inspector.sources.cameras.settings import NAMES, OPTIONAL, FeatureValue

_ROUNDING = 0.01
"""Share by which a number may differ that a camera rounded."""
_ALIASES = {"RGB8": "RGB8Packed", "BGR8": "BGR8Packed"}
"""Pixel formats by their names of before PFNC."""


@dataclass(frozen=True, slots=True)
class Grabbed:
    """What came of one image of the camera.

    Attributes:
        block_id: the camera's number for it; None: it numbers nothing.
        device_ns: when the camera took it, by its own clock; 0: it does not say.
        pixels: (H, W) or (H, W, 3), in memory that nobody writes to any more; None: it did not come whole.
        error: why not.
    """

    block_id: int | None
    device_ns: int
    pixels: np.ndarray[Any, Any] | None
    error: str | None = None


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

    def grab(self, timeout_s: float) -> Grabbed | None:
        """The next image, whole or not; None when none came in time.

        Raises:
            NotConnectedError: the camera is gone.
        """

    def close(self) -> None:
        """Let go of it; may come at any time, again too."""


def apply_features(driver: Driver, features: Iterable[tuple[str, FeatureValue]]) -> None:
    """Write all in their order, then read all back.

    Raises:
        NotConnectedError: a feature is not there, or refused, or has another value afterwards; says which.
    """
    written: dict[str, FeatureValue] = {}
    for name, asked in features:
        value = asked
        found = next((each for each in NAMES.get(name, (name,)) if driver.has_feature(each)), None)
        if found is None:
            if name in OPTIONAL:
                continue
            raise NotConnectedError(f"{name}: the camera has no such feature")
        if found == "GainRaw" and isinstance(value, float):
            value = round(value)  # in steps
        _write(driver, found, value)
        written[found] = value
    for name, value in written.items():
        got = driver.read_feature(name)
        if not _is_same(value, got):
            raise NotConnectedError(f"{name}: asked for {_to_text(value)}, the camera has {got}")


def _write(driver: Driver, name: str, value: FeatureValue) -> None:
    text = _to_text(value)
    try:
        driver.write_feature(name, text)
    except NotConnectedError:
        if name != "PixelFormat" or text not in _ALIASES:
            raise
        driver.write_feature(name, _ALIASES[text])


def _to_text(value: FeatureValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_same(asked: FeatureValue, got: str) -> bool:
    if isinstance(asked, bool):
        return (got.strip().lower() in {"1", "true"}) == asked
    if isinstance(asked, str):
        return got in {asked, _ALIASES.get(asked)}
    try:
        return abs(float(got) - asked) <= _ROUNDING * abs(asked) if isinstance(asked, float) else float(got) == asked
    except ValueError:
        return False
