"""The threads that decode: they end when asked to, and one that dies is a FAULT."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Any

from inspector.config import Station
from inspector.service.decoder import DecoderThread, build_decoders
from inspector.service.telemetry.health import Health, State
from inspector.sources.decoding import Decoding
from inspector.sources.wire import Message

WAIT_S = 10.0


def build_message(decode: Callable[..., Any]) -> Message:
    header = {"camera": "top", "frame_id": "f1", "encoding": "jpeg"}
    return Message("top", header, b"", 1, time.monotonic_ns(), False, 1, decode)


def test_at_least_two_threads_share_one_queue(health: Health) -> None:
    decoding, threads = build_decoders(1000, health)
    assert 2 <= len(threads) == decoding.threads <= 4
    assert [thread.name for thread in threads][:2] == ["decoder-1", "decoder-2"]


def test_thread_beats_while_nothing_comes_and_ends_soon_when_asked_to(
    health: Health, beats: queue.Queue[str], launch: Callable[[Any], Any], end: Callable[..., None]
) -> None:
    thread = launch(DecoderThread(1, Decoding(1, 1000), health=health))
    assert beats.get(timeout=WAIT_S) == beats.get(timeout=WAIT_S) == "decoder-1"
    end(thread)
    assert thread.failure is None


def test_thread_that_dies_is_a_fault_and_its_frame_is_there_to_be_answered(
    running: Health, launch: Callable[[Any], Any]
) -> None:
    def decode(*_: Any) -> Any:
        raise RuntimeError("nobody foresaw")

    decoding = Decoding(1, 1000)
    thread = launch(DecoderThread(1, decoding, health=running))
    decoding.put(build_message(decode))
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert running.state is State.FAULT
    (pending,) = decoding.drain(WAIT_S)
    assert pending.frame is not None
    assert pending.frame.frame_id == "f1"
    assert pending.frame.error is not None


def test_memory_is_bounded_anew_when_a_reload_changes_the_buffer(
    health: Health, make_station: Callable[..., Station]
) -> None:
    decoding, (thread, *_) = build_decoders(1000, health)
    thread.reconfigure(make_station(buffer={"max_bytes": 4_000_000}))
    assert decoding.max_bytes == 4_000_000
