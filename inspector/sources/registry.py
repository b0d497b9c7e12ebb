"""The kinds of source there are, and those of a station."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, get_args

import zmq
from pydantic import Field

from inspector.security.gate import Access
from inspector.security.settings import Sockets
from inspector.sources.base import Source
from inspector.sources.cameras.gentl import GentlSettings
from inspector.sources.cameras.gige import GigeSettings
from inspector.sources.cameras.pylon import PylonSettings
from inspector.sources.decoding import Decoding
from inspector.sources.folder import FolderSettings
from inspector.sources.memory import NO_MEMORY, FileMemory
from inspector.sources.opencv import OpencvSettings
from inspector.sources.settings import Sourced, SourceSettings
from inspector.sources.strips.source import LineScanSource
from inspector.sources.wire import FindFrameHw, FrameDecoder
from inspector.sources.zmq import ImagezmqSettings, ZmqSettings, ZmqSource

AnySource = Annotated[
    ZmqSettings | ImagezmqSettings | FolderSettings | OpencvSettings | PylonSettings | GigeSettings | GentlSettings,
    Field(discriminator="type"),
]
"""What `source` of a camera may be. A new kind is known once it stands here."""

KINDS: Mapping[str, type[SourceSettings]] = {
    get_args(kind.model_fields["type"].annotation)[0]: kind for kind in get_args(get_args(AnySource)[0])
}
"""The settings of each kind, by its `type`."""


def build_sources(cameras: Mapping[str, Sourced], memory: FileMemory = NO_MEMORY) -> list[Source]:
    """A source for each camera whose frames the daemon fetches."""
    built = [camera.source.build(name, simulated=camera.simulated, memory=memory) for name, camera in cameras.items()]
    return [assemble_lines(source, cameras) for source in built if source is not None]


def assemble_lines(source: Source, cameras: Mapping[str, Sourced]) -> Source:
    """The source, with strips put together to frames; itself where none of its cameras has `line_scan`."""
    settings = {name: cameras[name].line_scan for name in source.cameras if name in cameras}
    wanted = {name: line_scan for name, line_scan in settings.items() if line_scan is not None}
    return LineScanSource(source, wanted) if wanted else source


def build_receiver(
    cameras: Mapping[str, Sourced],
    sockets: Sockets,
    context: zmq.Context[zmq.Socket[bytes]],
    find_frame_hw: FindFrameHw = lambda _: None,
    access: Access = Access(),  # noqa: B008 (frozen)
    decoding: Decoding | None = None,
) -> ZmqSource | None:
    """One for all cameras whose frames are sent to the station, since they share its sockets; None: there are none.

    Strips come as they are sent: see `assemble_lines`.
    """
    sent = {name: camera for name, camera in cameras.items() if camera.source.is_sent}
    strips = {name for name, camera in sent.items() if camera.line_scan is not None}
    decoder = FrameDecoder(
        sent, sockets.max_message, lambda camera: None if camera in strips else find_frame_hw(camera)
    )
    return ZmqSource(context, sockets, decoder, access, decoding) if decoder.cameras else None
