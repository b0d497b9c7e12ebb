"""GigE Vision cameras through Aravis and PyGObject."""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from inspector.errors import ConfigError, NotConnectedError
from inspector.sources.base import Source
from inspector.sources.cameras.driver import Grabbed, add_chunks, build_grabbed
from inspector.sources.cameras.genicam import GenicamSource
from inspector.sources.cameras.settings import GenicamSettings
from inspector.sources.detached import DetachedSource
from inspector.sources.memory import NO_MEMORY, FileMemory
from inspector.sources.settings import Device

_BUFFERS = 8
"""Images that the camera may send while one is taken away; more would only make frames older."""
_INSTALL = (
    "gige: Aravis cannot be imported: apt-get install gir1.2-aravis-0.8 python3-gi, then link "
    "/usr/lib/python3/dist-packages/gi into this environment's site-packages (Python of the same version), or "
    "pip install 'inspector[gige]'"
)


class GigeSettings(GenicamSettings):
    """A GigE Vision or USB3 Vision camera of any make."""

    device_field = "device"

    type: Literal["gige"]
    """A GigE Vision or USB3 Vision camera, through Aravis."""
    device: Annotated[str, Field(max_length=128)] = ""
    """IP address, serial number or id of the camera, as `inspector cameras` shows it; empty: the first one found."""
    packet_size: Annotated[int, Field(ge=576, le=16_000)] | None = None
    """Of the image packets, in bytes. null: the largest that the network takes, tried when the camera is opened."""
    packet_resend: bool = True
    """true: packets that were lost are asked for again."""

    @property
    def address(self) -> str:
        """See `GenicamSettings`."""
        return self.device

    @classmethod
    def find_devices(cls) -> Iterator[Device]:
        """See `SourceSettings`."""
        aravis = load_aravis()
        aravis.update_device_list()
        for index in range(aravis.get_n_devices()):
            parts = (aravis.get_device_vendor, aravis.get_device_model, aravis.get_device_serial_nbr)
            address = aravis.get_device_address(index) or aravis.get_device_id(index)
            yield Device(address, " ".join(part(index) for part in parts))

    def build(self, camera: str, *, simulated: bool = False, memory: FileMemory = NO_MEMORY) -> Source:
        """See `SourceSettings`.

        Raises:
            ConfigError: Aravis is not installed, or cannot be imported.
        """
        load_aravis(("cameras", camera, "source", "type"))
        return DetachedSource(GenicamSource(camera, self, GigeDriver(self), simulated=simulated))


def load_aravis(field: tuple[str, ...] = ()) -> Any:
    """The library.

    Raises:
        ConfigError: it is not installed, or cannot be imported; says how to install it.
    """
    if importlib.util.find_spec("gi") is None:
        raise ConfigError(_INSTALL, field=field)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImportWarning)  # of how PyGObject makes its modules
            import gi

            gi.require_version("Aravis", "0.8")
            from gi.repository import Aravis
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{_INSTALL}: {error}", field=field) from error
    return Aravis


class GigeDriver:
    """See `Driver`."""

    def __init__(self, settings: GigeSettings) -> None:
        self._settings = settings
        self._aravis: Any = None  # found once: to look for it costs as much as a fifth of the copy of a large image
        self._camera: Any = None
        self._stream: Any = None
        self._parser: Any = None
        self._is_lost = False

    def open(self) -> None:
        """See `Driver`."""
        self._aravis = load_aravis()
        self._is_lost = False
        with _translating():
            self._camera = self._aravis.Camera.new(self._settings.device or None)
            device = self._camera.get_device()
            if self._camera.is_gv_device() and not device.is_controller():
                raise NotConnectedError("another program has control of it")
            device.connect("control-lost", self._note_loss)

    def _note_loss(self, *_: Any) -> None:
        self._is_lost = True

    def has_feature(self, name: str) -> bool:
        """See `Driver`."""
        with _translating(f"{name}: "):
            device = self._camera.get_device()
            return device.get_feature(name) is not None and bool(device.is_feature_available(name))

    def write_feature(self, name: str, value: str) -> None:
        """See `Driver`."""
        with _translating(f"{name}: "):
            self._camera.get_device().get_feature(name).set_value_from_string(value)

    def read_feature(self, name: str) -> str:
        """See `Driver`."""
        with _translating(f"{name}: "):
            return str(self._camera.get_device().get_feature(name).get_value_as_string())

    def execute(self, name: str) -> None:
        """See `Driver`."""
        with _translating(f"{name}: "):
            self._camera.get_device().get_feature(name).execute()

    def start(self) -> None:
        """See `Driver`."""
        aravis = self._aravis
        with _translating():
            if self._camera.is_gv_device():
                self._set_packets()
            self._stream = self._camera.create_stream(None, None)
            if self._stream is None:
                raise NotConnectedError("it gives no stream")
            if isinstance(self._stream, aravis.GvStream):
                resend = aravis.GvStreamPacketResend
                self._stream.set_property(
                    "packet-resend", resend.ALWAYS if self._settings.packet_resend else resend.NEVER
                )
            self._parser = self._camera.create_chunk_parser()
            payload = self._camera.get_payload()
            for _ in range(_BUFFERS):
                self._stream.push_buffer(aravis.Buffer.new_allocate(payload))
            self._camera.start_acquisition()

    def _set_packets(self) -> None:
        if self._settings.packet_size is None:
            self._camera.gv_auto_packet_size()
            return
        self._camera.gv_set_packet_size(self._settings.packet_size)
        if (got := self._camera.gv_get_packet_size()) != self._settings.packet_size:
            raise NotConnectedError(f"packet_size: asked for {self._settings.packet_size}, the camera has {got}")

    def fire(self) -> None:
        """See `Driver`."""
        with _translating("TriggerSoftware: "):
            self._camera.software_trigger()

    def grab(self, timeout_s: float, chunks: Sequence[str] = ()) -> Grabbed | None:
        """See `Driver`."""
        buffer = self._stream.timeout_pop_buffer(max(1, int(timeout_s * 1e6)))
        if self._is_lost:  # one that sends on may be another program's now, with its settings
            raise NotConnectedError("it does not answer any more: unplugged, without power, or taken over")
        if buffer is None:
            return None
        try:
            return add_chunks(_read(self._aravis, buffer), chunks, lambda name: self._read_chunk(buffer, name))
        finally:
            self._stream.push_buffer(buffer)

    def _read_chunk(self, buffer: Any, name: str) -> int:
        with _translating(f"{name}: "):
            return int(self._parser.get_integer_value(buffer, name))

    def close(self) -> None:
        """See `Driver`."""
        camera, self._camera, self._stream, self._parser = self._camera, None, None, None
        if camera is not None and not self._is_lost:
            with contextlib.suppress(NotConnectedError), _translating():
                camera.stop_acquisition()


def _read(aravis: Any, buffer: Any) -> Grabbed:
    status = buffer.get_status()
    block_id, device_ns = int(buffer.get_frame_id()), int(buffer.get_timestamp())
    if status != aravis.BufferStatus.SUCCESS:
        return Grabbed(block_id, device_ns, None, error=f"image damaged: {status.value_nick}")
    hw = (buffer.get_image_height(), buffer.get_image_width())
    content = buffer.get_data()  # the one copy from the camera's buffer
    return build_grabbed(
        block_id, device_ns, content, buffer.get_image_pixel_format(), hw, buffer.get_image_padding()[0]
    )


@contextlib.contextmanager
def _translating(what: str = "") -> Iterator[None]:
    from gi.repository import GLib

    try:
        yield
    except GLib.Error as error:
        raise NotConnectedError(f"{what}{error.message}") from error
