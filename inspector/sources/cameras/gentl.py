"""Cameras of any make through its maker's GenTL producer (a .cti file), with harvesters."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from inspector.errors import ConfigError, NotConnectedError
from inspector.sources.base import Source
from inspector.sources.cameras.driver import Grabbed, add_chunks, build_grabbed, parse_number, strip_place
from inspector.sources.cameras.genicam import GenicamSource
from inspector.sources.cameras.remote import RemoteDriver
from inspector.sources.cameras.settings import GenicamSettings
from inspector.sources.detached import DetachedSource
from inspector.sources.memory import NO_MEMORY, FileMemory
from inspector.sources.settings import Device
from inspector.strict.claims import Claim

_BUFFERS = 8
"""Images that the camera may send while one is taken away; more would only make frames older."""
_PRODUCERS = "GENICAM_GENTL64_PATH"
"""The folders that makers install their producers in, by the GenTL standard."""


class GentlSettings(GenicamSettings):
    """A camera of any make, through its maker's GenTL producer."""

    device_field = "device"

    type: Literal["genicam"]
    """A camera through a GenTL producer, with harvesters."""
    producer: Annotated[Path, Field(examples=["/opt/maker/lib/producer.cti"])]
    """The maker's GenTL producer, a file that ends in .cti."""
    device: Annotated[str, Field(max_length=128)] = ""
    """Serial number or id of the camera, as `inspector cameras` shows it; empty: the first one found."""

    @property
    def address(self) -> str:
        """See `GenicamSettings`."""
        return self.device

    def anchor(self, folder: Path) -> Self:
        """See `SourceSettings`."""
        return self.model_copy(update={"producer": folder / self.producer})

    def list_claims(self, camera: str, folder: Path) -> Iterator[Claim]:
        """See `SourceSettings`; another producer has other cameras."""
        producer = os.path.normpath(folder / self.producer)
        for claim in super().list_claims(camera, folder):
            yield dataclasses.replace(claim, key=(f"{self.type} {producer}", self.device))

    @classmethod
    def find_devices(cls) -> Iterator[Device]:
        """See `SourceSettings`; of the producers that the environment names.

        Raises:
            NotConnectedError: after the cameras of the others, which producers cannot be used.
        """
        require_harvesters()
        problems = []
        for folder in filter(None, os.environ.get(_PRODUCERS, "").split(os.pathsep)):
            for producer in sorted(Path(folder).glob("*.cti")):
                try:
                    with _translating(), _opening(producer) as harvester:
                        for info in harvester.device_info_list:
                            yield Device(_name(info), f"{info.vendor} {info.model}, producer: {producer}")
                except NotConnectedError as error:
                    problems.append(f"{producer}: {error}")
        if problems:
            raise NotConnectedError("; ".join(problems))

    def build(self, camera: str, *, simulated: bool = False, memory: FileMemory = NO_MEMORY) -> Source:
        """See `SourceSettings`.

        Raises:
            ConfigError: harvesters is not installed.
        """
        require_harvesters(("cameras", camera, "source", "type"))
        # While it waits, the library lets no other thread of its process run.
        driver = RemoteDriver(functools.partial(GentlDriver, self.producer, self.device))
        return DetachedSource(GenicamSource(camera, self, driver, simulated=simulated))


def require_harvesters(field: tuple[str, ...] = ()) -> None:
    """See that it can be imported.

    Raises:
        ConfigError: it cannot; says how to install it.
    """
    if importlib.util.find_spec("harvesters") is None or importlib.util.find_spec("genicam") is None:
        message = "genicam: the package harvesters is not installed: pip install 'inspector[genicam]'"
        raise ConfigError(message, field=field)


class GentlDriver:
    """See `Driver`. A process can open a producer once: see `RemoteDriver`."""

    def __init__(self, producer: Path, address: str) -> None:
        self._producer = producer
        self._address = address
        self._opened = contextlib.ExitStack()
        self._acquirer: Any = None

    def open(self) -> None:
        """See `Driver`."""
        with _translating():
            harvester = self._opened.enter_context(_opening(self._producer))
            wanted = [info for info in harvester.device_info_list if self._address in {"", info.id_, _name(info)}]
            if not wanted:
                raise NotConnectedError(f"no camera {self._address or 'at all'} is there, says {self._producer}")
            self._acquirer = harvester.create(wanted[0])
            self._opened.callback(self._acquirer.destroy)
            self._acquirer.num_buffers = max(_BUFFERS, self._acquirer.min_num_buffers)

    def has_feature(self, name: str) -> bool:
        """See `Driver`."""
        from genicam import genapi

        with _translating(f"{name}: "):
            absent = (genapi.EAccessMode.NI, genapi.EAccessMode.NA)
            return bool(self._nodes.has_node(name)) and self._nodes.get_node(name).get_access_mode() not in absent

    def write_feature(self, name: str, value: str) -> None:
        """See `Driver`."""
        with _translating(f"{name}: "):
            self._nodes.get_node(name).from_string(value)

    def read_feature(self, name: str) -> str:
        """See `Driver`."""
        with _translating(f"{name}: "):
            return str(self._nodes.get_node(name).to_string())

    def execute(self, name: str) -> None:
        """See `Driver`."""
        with _translating(f"{name}: "):
            self._nodes.get_node(name).execute()

    def start(self) -> None:
        """See `Driver`."""
        with _translating():
            self._acquirer.start()

    def fire(self) -> None:
        """See `Driver`."""
        with _translating("TriggerSoftware: "):
            self._nodes.get_node("TriggerSoftware").execute()

    def grab(self, timeout_s: float, chunks: Sequence[str] = ()) -> Grabbed | None:
        """See `Driver`. Images that lack a part are left out by harvesters; the numbers then skip them."""
        with _translating():
            buffer = self._acquirer.try_fetch(timeout=max(0.001, timeout_s))
            if buffer is None:
                return None
            with buffer:
                return add_chunks(_read(buffer), chunks, lambda name: self._read_chunk(buffer, name))

    def _read_chunk(self, buffer: Any, name: str) -> int:
        """From the features, where harvesters puts the chunks of each image that has some: else an earlier one's."""
        if not _has_chunks(buffer.module):
            raise NotConnectedError(f"{name}: no chunk came with it")
        return int(parse_number(self.read_feature(name)))

    def close(self) -> None:
        """See `Driver`."""
        self._acquirer = None
        with contextlib.suppress(NotConnectedError), _translating():
            self._opened.close()

    @property
    def _nodes(self) -> Any:
        return self._acquirer.remote_device.node_map


@contextlib.contextmanager
def _opening(producer: Path) -> Iterator[Any]:
    """A producer, and the cameras it sees now."""
    from harvesters.core import Harvester

    if not producer.is_file():
        raise NotConnectedError(f"producer: {producer} is not there")
    harvester = Harvester()
    try:
        harvester.add_file(str(producer))
        harvester.update()
        yield harvester
    finally:
        harvester.reset()


def _name(info: Any) -> str:
    """Its serial number; its id, where the producer does not tell that."""
    return str(_find(info, "serial_number") or info.id_)


def _read(buffer: Any) -> Grabbed:
    block_id, device_ns = _find(buffer, "frame_id"), int(_find(buffer, "timestamp_ns") or 0)
    parts = buffer.payload.components
    if not parts:
        return Grabbed(block_id, device_ns, None, error="image damaged: no image in it")
    part = parts[0]
    content = part.data.tobytes()  # the one copy from the camera's buffer
    return build_grabbed(
        block_id, device_ns, content, part.data_format_value, (part.height, part.width), part.x_padding
    )


def _has_chunks(module: Any) -> bool:
    from genicam import gentl

    try:
        return bool(module.is_containing_chunk_data())
    except gentl.GenericException:  # a producer that does not tell
        return bool(_find(module, "num_chunks"))


def _find(module: Any, name: str) -> Any:
    """What a producer says of something; None: it does not."""
    from genicam import gentl

    try:
        return getattr(module, name)
    except gentl.GenericException:
        return None


@contextlib.contextmanager
def _translating(what: str = "") -> Iterator[None]:
    from genicam import genapi, gentl

    try:
        yield
    except (genapi.GenericException, gentl.GenericException) as error:
        raise NotConnectedError(f"{what}{strip_place(str(error))}") from error
