"""The devices of a station, and which of them judges which camera."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import Discriminator, Field, Tag

DeviceName = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
"""The only device of a station."""
NumberedDevice = Annotated[str, Field(pattern=r"^(cpu|cuda:(0|[1-9]\d*))$")]
"""One of several: two names are two devices."""
Devices = Annotated[
    Annotated[DeviceName, Tag("name")] | Annotated[tuple[NumberedDevice, ...], Field(min_length=1), Tag("list")],
    Discriminator(lambda value: "list" if isinstance(value, list | tuple) else "name"),
]


class MissingDevice(StrEnum):
    """What a start does where one of several devices cannot be used."""

    REFUSE = "refuse"
    LEAVE_OUT = "leave_out"


def list_names(device: str | tuple[str, ...]) -> tuple[str, ...]:
    """The devices of a station, be there one or several."""
    return (device,) if isinstance(device, str) else device


def place_cameras(wanted: Mapping[str, str | None], names: Sequence[str]) -> dict[str, int]:
    """The device of each camera, as its place in `names`.

    Those that want a device have the first of this name. Then each other one, in the order of `wanted`, takes the
    device that has the fewest cameras, the first of these: the same file gives the same places.
    """
    placed = {camera: names.index(name) for camera, name in wanted.items() if name is not None}
    for camera in wanted:
        if camera not in placed:
            counts = Counter(placed.values())
            placed[camera] = min(range(len(names)), key=lambda place: counts[place])
    return placed


def find_placing_faults(
    wanted: Mapping[str, str | None], names: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong with the devices that cameras want: the field below `cameras`, and the rule."""
    unknown = {camera: name for camera, name in wanted.items() if name is not None and name not in names}
    for camera, name in unknown.items():
        yield (camera, "device"), f"must be of the station's device, {', '.join(names)}, got {name}"
    places = {} if unknown else place_cameras(wanted, names)
    idle = [name for place, name in enumerate(names) if place not in places.values()]
    if idle and not unknown:
        yield (), f"must be at least one for each device, got none for {', '.join(idle)}"
