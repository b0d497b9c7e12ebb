"""Whether the machine's clock is right, as the kernel knows it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

_long = ctypes.c_long
_TIME_ERROR = 5  # what adjtimex(2) returns for a clock that follows nothing
_STA_UNSYNC = 0x40


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", _long),
        ("freq", _long),
        ("maxerror", _long),
        ("esterror", _long),
        ("status", ctypes.c_int),
        ("constant", _long),
        ("precision", _long),
        ("tolerance", _long),
        ("time", _long * 2),
        ("tick", _long),
        ("ppsfreq", _long),
        ("jitter", _long),
        ("shift", ctypes.c_int),
        ("stabil", _long),
        ("jitcnt", _long),
        ("calcnt", _long),
        ("errcnt", _long),
        ("stbcnt", _long),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    )


@dataclass(frozen=True, slots=True)
class Clock:
    """`error_s` is the kernel's bound; it grows while no reference is heard, and is 16 s at most."""

    synchronised: bool
    error_s: float


def read_clock() -> Clock | None:
    """Ask the kernel, which needs no privilege; None where a sandbox forbids it."""
    timex = _Timex(modes=0)  # reads only
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    except (AttributeError, OSError):
        return None
    if state < 0:
        return None
    return Clock(state != _TIME_ERROR and not timex.status & _STA_UNSYNC, timex.maxerror / 1e6)
