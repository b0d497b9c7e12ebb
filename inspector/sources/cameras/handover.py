"""Messages and pictures of a child process: pictures by shared memory, copied once into memory of their own."""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

_PLACES = 2
"""Pictures in the shared memory: one is read from the camera while the other is taken out."""
_TAKEN = b"\0"
_SPARE = 3
"""Pieces of memory for pictures that are kept: one is filled, one waits, one is judged."""


class PictureMemory:
    """Memory for pictures, used again once nobody has the picture any more. Used by one thread.

    Of large pieces, the system clears each that it gives and takes each back that is freed: for pictures of 36 MB that
    was two fifths of the time their copies took.
    """

    def __init__(self) -> None:
        self._pieces: list[np.ndarray[Any, Any]] = []

    def take(self, size: int) -> np.ndarray[Any, Any]:
        """(size,) uint8 of any content, the caller's as long as it has this or an array upon it."""
        self._pieces = [piece for piece in self._pieces if piece.size == size]
        for piece, count in zip(self._pieces, _count_references(self._pieces), strict=True):
            if count == _UNUSED:
                return piece
        self._pieces = [*self._pieces, np.empty(size, np.uint8)][-_SPARE:]
        return self._pieces[-1]


def _count_references(pieces: list[np.ndarray[Any, Any]]) -> list[int]:
    return [sys.getrefcount(piece) for piece in pieces]


_UNUSED = _count_references([np.empty(0, np.uint8)])[0]
"""Of a piece that nothing but its list has; versions of Python count differently."""


class Inbox:
    """Messages of a child, each after its length in 8 bytes. One that stops within a message holds up nobody.

    Pictures come in memory that both see, two by turns. It has no name: the kernel frees it with the last who has it.
    """

    def __init__(self, near_end: socket.socket) -> None:
        self._socket = near_end
        self._file = os.memfd_create("pictures")
        self._memory: mmap.mmap | None = None
        self._pictures = PictureMemory()
        socket.send_fds(near_end, [_TAKEN], [self._file])
        self._expect(8, is_length=True)

    def receive(self, timeout_s: float) -> dict[str, Any] | None:
        """The next message; None where it is not whole yet.

        Raises:
            EOFError, OSError: the child has ended.
        """
        deadline = time.monotonic() + timeout_s
        while self._filled < self._buffer.size:
            self._socket.settimeout(max(0.0, deadline - time.monotonic()))
            try:
                count = self._socket.recv_into(self._buffer[self._filled :].data)
            except (TimeoutError, BlockingIOError):
                return None
            if not count:
                raise EOFError("its socket was closed")
            self._filled += count
            if self._is_length and self._filled == self._buffer.size:
                self._expect(int.from_bytes(self._buffer.tobytes()), is_length=False)
        message: dict[str, Any] = json.loads(self._buffer.tobytes())
        self._expect(8, is_length=True)
        return message

    def copy_picture(self, dtype: str, shape: Sequence[int], place: int) -> np.ndarray[Any, Any]:
        """The picture that a message tells of, in memory of its own; its place may then be used again."""
        count = math.prod(shape)
        size = count * np.dtype(dtype).itemsize
        if self._memory is None or len(self._memory) != _PLACES * size:
            self._memory = mmap.mmap(self._file, _PLACES * size, prot=mmap.PROT_READ)
        picture = self._pictures.take(size).view(dtype).reshape(shape)
        np.copyto(picture, np.frombuffer(self._memory, dtype, count, place * size).reshape(shape))
        with contextlib.suppress(OSError):  # it has ended: the next message tells
            self._socket.send(_TAKEN)
        return picture

    def close(self) -> None:
        """Let go of socket and memory."""
        self._socket.close()
        os.close(self._file)
        self._memory = None

    def _expect(self, size: int, *, is_length: bool) -> None:
        self._buffer, self._filled, self._is_length = np.empty(size, np.uint8), 0, is_length


class Outbox:
    """The child's side: pictures are read straight into the shared memory, where none lies that was not taken."""

    def __init__(self, far_end: socket.socket) -> None:
        self._socket = far_end
        _, (self._file,), _, _ = socket.recv_fds(far_end, 1, 1)
        self._places: list[np.ndarray[Any, Any]] = []
        self._turn = self._untaken = 0

    def get_place(self) -> np.ndarray[Any, Any] | None:
        """Where the next picture may be read into; waits for one. None: no picture told its size yet."""
        self._await_taken(_PLACES - 1)
        return self._places[self._turn] if self._places else None

    def hand_over(self, picture: np.ndarray[Any, Any], **message: Any) -> None:
        """Tell of a picture, moved into the shared memory where it is not there."""
        if not self._places or (picture.shape, picture.dtype) != (self._places[0].shape, self._places[0].dtype):
            self._make_places(picture)
        place = self._places[self._turn]
        if picture is not place:
            np.copyto(place, picture)
        self.send(event="frame", dtype=str(picture.dtype), shape=picture.shape, place=self._turn, **message)
        self._turn = (self._turn + 1) % _PLACES
        self._untaken += 1

    def _make_places(self, like: np.ndarray[Any, Any]) -> None:
        self._await_taken(0)
        os.ftruncate(self._file, _PLACES * like.nbytes)
        memory = np.frombuffer(mmap.mmap(self._file, _PLACES * like.nbytes), like.dtype)
        self._places, self._turn = list(memory.reshape(_PLACES, *like.shape)), 0

    def _await_taken(self, untaken: int) -> None:
        while self._untaken > untaken:
            if not self._socket.recv(1):
                raise BrokenPipeError
            self._untaken -= 1

    def send(self, **message: Any) -> None:
        """Send a message: what JSON can say.

        Raises:
            BrokenPipeError, ConnectionResetError: nobody listens any more.
        """
        content = json.dumps(message).encode()
        self._socket.sendall(len(content).to_bytes(8) + content)
