"""What a source tells the status of its camera."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReadBack:
    """A setting as it was written and as the camera gave it back, in the camera's own words.

    Attributes:
        name: the camera's, of the feature. What follows a `…Selector` in the list holds for that selection.
        asked: what was written.
        found: what was read afterwards.
        differs: by more than a camera may round; then the camera is not used.
    """

    name: str
    asked: str
    found: str
    differs: bool

    @property
    def is_rounded(self) -> bool:
        """Whether the camera has another number, be it near enough."""
        try:
            return float(self.asked) != float(self.found)
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Ptp:
    """A camera's clock under IEEE 1588.

    Attributes:
        state: as the camera calls it, such as Slave, Listening, Master.
        offset_ns: the camera's own measure of how far it is from its master; None: it does not say.
    """

    state: str
    offset_ns: int | None

    @property
    def is_locked(self) -> bool:
        """Whether it follows a master."""
        return self.state == "Slave"


@dataclass(frozen=True, slots=True)
class CameraReport:
    """A camera as it was last found.

    Attributes:
        is_connected: whether it is open now.
        settings: all that were written, in their order; those of the last time it was there.
        read_utc_ns: when they were read back, in nanoseconds since 1970; 0: never.
        triggers_missed: triggers that came while the camera could take no image, by its own count, while it was
            connected; None: it is not asked.
        ptp: None: it is not asked.
        is_dated_by_ptp: the time of capture of its last frame is that of PTP; else it is mapped by this machine.
    """

    is_connected: bool
    settings: tuple[ReadBack, ...] = ()
    read_utc_ns: int = 0
    triggers_missed: int | None = None
    ptp: Ptp | None = None
    is_dated_by_ptp: bool = False

    @property
    def differences(self) -> tuple[str, ...]:
        """Each setting that the camera did not take, in words."""
        return tuple(f"{each.name}: asked for {each.asked}, the camera has {each.found}"
                     for each in self.settings if each.differs)  # fmt: skip
