"""Basler cameras through pypylon, with Basler's own drivers for GigE, USB3 and CXP."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from inspector.errors import ConfigError, NotConnectedError
from inspector.sources.base import Source
from inspector.sources.cameras.driver import Grabbed, add_chunks, build_grabbed, parse_number, read_ticks, strip_place
from inspector.sources.cameras.genicam import GenicamSource
from inspector.sources.cameras.settings import GenicamSettings
from inspector.sources.detached import DetachedSource
from inspector.sources.memory import NO_MEMORY, FileMemory
from inspector.sources.settings import Device

_BUFFERS = 8
"""Images that the camera may send while one is taken away; more would only make frames older."""
_READY_MS = 2000
"""How long the camera may be busy with an image before it takes the next trigger."""


class PylonSettings(GenicamSettings):
    """A Basler camera."""

    device_field = "serial"

    type: Literal["pylon"]
    """A Basler camera, through Basler's pypylon."""
    serial: Annotated[str, Field(max_length=64)] = ""
    """Serial number or IP address of the camera; empty: the first one found."""

    @property
    def address(self) -> str:
        """See `GenicamSettings`."""
        return self.serial

    @classmethod
    def find_devices(cls) -> Iterator[Device]:
        """See `SourceSettings`."""
        require_pypylon()
        from pypylon import pylon

        with _translating():
            for device in pylon.TlFactory.GetInstance().EnumerateDevices():
                yield Device(device.GetSerialNumber(), device.GetFriendlyName())

    def build(self, camera: str, *, simulated: bool = False, memory: FileMemory = NO_MEMORY) -> Source:
        """See `SourceSettings`.

        Raises:
            ConfigError: pypylon is not installed.
        """
        require_pypylon(("cameras", camera, "source", "type"))
        return DetachedSource(GenicamSource(camera, self, PylonDriver(self.serial), simulated=simulated))


def require_pypylon(field: tuple[str, ...] = ()) -> None:
    """See that it can be imported.

    Raises:
        ConfigError: it cannot; says how to install it.
    """
    if importlib.util.find_spec("pypylon") is None:
        message = "pylon: the package pypylon is not installed: pip install 'inspector[pylon]'"
        raise ConfigError(message, field=field)


class PylonDriver:
    """See `Driver`."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._camera: Any = None
        self._ns_per_tick = 1.0

    def open(self) -> None:
        """See `Driver`."""
        from pypylon import pylon

        with _translating():
            factory = pylon.TlFactory.GetInstance()
            wanted = [device for device in factory.EnumerateDevices() if self._address in {"", *_list_names(device)}]
            if not wanted:
                raise NotConnectedError(f"no camera {self._address or 'at all'} is there")
            self._camera = pylon.InstantCamera(factory.CreateDevice(wanted[0]))
            self._camera.Open()
            self._camera.MaxNumBuffer.SetValue(_BUFFERS)
            ticks = self._find("GevTimestampTickFrequency")
            self._ns_per_tick = (
                1.0 if ticks is None else 1e9 / read_ticks("GevTimestampTickFrequency", ticks.ToString())
            )

    def has_feature(self, name: str) -> bool:
        """See `Driver`."""
        return self._find(name) is not None

    def write_feature(self, name: str, value: str) -> None:
        """See `Driver`."""
        with _translating(f"{name}: "):
            self._get(name).FromString(value)

    def read_feature(self, name: str) -> str:
        """See `Driver`."""
        with _translating(f"{name}: "):
            return str(self._get(name).ToString())

    def execute(self, name: str) -> None:
        """See `Driver`."""
        with _translating(f"{name}: "):
            self._get(name).Execute()

    def start(self) -> None:
        """See `Driver`."""
        from pypylon import pylon

        with _translating():
            self._camera.StartGrabbing(pylon.GrabStrategy_OneByOne)

    def fire(self) -> None:
        """See `Driver`."""
        from pypylon import pylon

        with _translating("TriggerSoftware: "):
            # A trigger that comes while the camera is busy with the last image is lost.
            if self._camera.CanWaitForFrameTriggerReady() and not self._camera.WaitForFrameTriggerReady(
                _READY_MS, pylon.TimeoutHandling_Return
            ):
                raise NotConnectedError(f"the camera was not ready for {_READY_MS} ms")
            self._get("TriggerSoftware").Execute()

    def grab(self, timeout_s: float, chunks: Sequence[str] = ()) -> Grabbed | None:
        """See `Driver`."""
        from pypylon import pylon

        with _translating():
            result = self._camera.RetrieveResult(max(1, int(timeout_s * 1000)), pylon.TimeoutHandling_Return)
            if not result.IsValid():
                if self._camera.IsCameraDeviceRemoved():
                    raise NotConnectedError("it was unplugged, or its network is gone")
                return None
            try:
                return add_chunks(self._read(result), chunks, lambda name: _read_chunk(result, name))
            finally:
                result.Release()

    def _read(self, result: Any) -> Grabbed:
        device_ns = int(result.TimeStamp * self._ns_per_tick)
        if not result.GrabSucceeded():
            return Grabbed(result.BlockID, device_ns, None, error=f"image damaged: {result.ErrorDescription}")
        content = result.GetBuffer()  # the one copy from the driver's buffer
        hw = (result.Height, result.Width)
        return build_grabbed(result.BlockID, device_ns, content, result.PixelType, hw, result.PaddingX)

    def close(self) -> None:
        """See `Driver`."""
        camera, self._camera = self._camera, None
        if camera is not None:
            with contextlib.suppress(NotConnectedError), _translating():
                camera.StopGrabbing()
            with contextlib.suppress(NotConnectedError), _translating():
                camera.Close()

    def _find(self, name: str) -> Any:
        """The feature's node; None: the camera has none of this name."""
        from pypylon import genicam

        with _translating(f"{name}: "):
            node = self._camera.GetNodeMap().GetNode(name)
            return node if node is not None and genicam.IsAvailable(node) else None

    def _get(self, name: str) -> Any:
        node = self._find(name)
        if node is None:
            raise NotConnectedError("the camera has no such feature")
        return node


@contextlib.contextmanager
def _translating(what: str = "") -> Iterator[None]:
    from pypylon import genicam

    try:
        yield
    except genicam.GenericException as error:
        raise NotConnectedError(f"{what}{strip_place(str(error))}") from error


def _read_chunk(result: Any, name: str) -> int:
    with _translating(f"{name}: "):
        return int(parse_number(result.GetChunkDataNodeMap().GetNode(name).ToString()))


def _list_names(device: Any) -> Iterator[str]:
    yield device.GetSerialNumber()
    if device.IsIpAddressAvailable():
        yield device.GetIpAddress()
