"""Sources of a station, from its configuration."""

from __future__ import annotations

import zmq

from inspector.config import FolderSource as FolderConfig
from inspector.config import ImagezmqSource, Station
from inspector.config import OpencvSource as OpencvConfig
from inspector.config import ZmqSource as ZmqConfig
from inspector.security.gate import Access
from inspector.sources.base import Source
from inspector.sources.detached import DetachedSource
from inspector.sources.folder import FolderSource
from inspector.sources.opencv import OpencvSource
from inspector.sources.wire import FindFrameHw, FrameDecoder
from inspector.sources.zmq import ZmqSource


def build_sources(
    station: Station,
    context: zmq.Context[zmq.Socket[bytes]],
    find_frame_hw: FindFrameHw = lambda _: None,
    access: Access = Access(),  # noqa: B008 (frozen)
) -> list[Source]:
    """One source per camera; those that come over ZeroMQ share one, since they share its socket."""
    sources: list[Source] = []
    for name, camera in station.cameras.items():
        source = camera.source
        if isinstance(source, FolderConfig):
            sources.append(
                DetachedSource(
                    FolderSource(
                        name, source.path, watch=source.watch, poll_s=source.poll_s, simulated=camera.simulated
                    )
                )
            )
        elif isinstance(source, OpencvConfig):
            sources.append(
                OpencvSource(
                    name,
                    source.device,
                    open_timeout_s=source.open_timeout_s,
                    read_timeout_s=source.read_timeout_s,
                    simulated=camera.simulated,
                )
            )
    if any(isinstance(camera.source, (ZmqConfig, ImagezmqSource)) for camera in station.cameras.values()):
        decoder = FrameDecoder(station.cameras, station.sockets.max_message, find_frame_hw)
        sources.append(ZmqSource(context, station.sockets, decoder, access))
    return sources
