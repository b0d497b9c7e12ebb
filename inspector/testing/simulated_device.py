"""A device that computes at once and takes given times: its streams are queues in seconds that nobody waits for.

It shows what a GPU's order of work does to frames (who waits behind whom), on any machine and the same every time.
It shows nothing of a GPU's speed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inspector.config import WhenFull
from inspector.engine.base import Precision, allocate_tiles
from inspector.engine.download import Array, Download
from inspector.service.flow.buffer import FrameBuffer
from inspector.service.flow.ledger import Ledger, Outcome, Ticket
from inspector.service.flow.worker import DeviceWorker
from inspector.types import Fallback, Frame, Verdict


class SimulatedClock:
    """Seconds that pass only where somebody works or waits."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def spend(self, seconds: float) -> None:
        """The host works."""
        self.now_s += seconds

    def wait_until(self, at_s: float) -> None:
        """The host waits, if that is still to come."""
        self.now_s = max(self.now_s, at_s)


class SimulatedStream:
    """Work of given lengths, first in, first out."""

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock = clock
        self._free_at_s = 0.0
        self.busy_s = 0.0

    def run(self, seconds: float, not_before_s: float = 0.0) -> float:
        """Queue work; when it will have ended."""
        self._free_at_s = max(self._free_at_s, self._clock.now_s, not_before_s) + seconds
        self.busy_s += seconds
        return self._free_at_s


class SimulatedDownload:
    """As `Download`: values that are there at a given instant."""

    def __init__(self, clock: SimulatedClock, values: Array, at_s: float) -> None:
        self.at_s = at_s
        self._clock = clock
        self._values = values

    @property
    def is_ready(self) -> bool:
        """As `Download`."""
        return self._clock.now_s >= self.at_s

    def wait(self) -> Array:
        """As `Download`."""
        self._clock.wait_until(self.at_s)
        return self._values


class SimulatedDevice:
    """A clock, a stream that computes and one beside it; as `Downloads` towards a detector.

    Attributes:
        fetched_bytes: of each `fetch`, in their order.
    """

    def __init__(self, *, call_s: float = 50e-6, bytes_per_s: float = 20e9) -> None:
        """`call_s`: what a small copy takes, wherever it is queued; `bytes_per_s`: what a large one adds."""
        self.clock = SimulatedClock()
        self.compute = SimulatedStream(self.clock)
        self.side = SimulatedStream(self.clock)
        self.fetched_bytes: list[int] = []
        self._call_s = call_s
        self._bytes_per_s = bytes_per_s

    def queue(self, tensor: Tensor) -> SimulatedDownload:
        """As `Downloads`."""
        return SimulatedDownload(self.clock, tensor.clone().numpy(), self.compute.run(self._time_copy(tensor)))

    def fetch(self, compute: Callable[[], Tensor], after: Download) -> Array:
        """As `Downloads`."""
        assert isinstance(after, SimulatedDownload)
        tensor = compute()
        self.fetched_bytes.append(tensor.nbytes)
        at_s = self.side.run(self._time_copy(tensor), not_before_s=after.at_s)
        return SimulatedDownload(self.clock, tensor.clone().numpy(), at_s).wait()

    def _time_copy(self, tensor: Tensor) -> float:
        return self._call_s + tensor.nbytes / self._bytes_per_s


class SimulatedEngine:
    """As `Engine`, like a CUDA graph: a batch takes its time however full it is, and nobody waits for it.

    The maps are the tiles' first channel as a share of 255: what is bright is a defect.
    """

    pays_for_full_batch = True
    brings_own_threads = False
    fallback = Fallback.NONE
    precision = Precision.FP32
    frames_in_flight = 3

    def __init__(self, device: SimulatedDevice, *, batch: int, side: int, batch_s: float) -> None:
        """`batch` tiles of `side` pixels take `batch_s` seconds."""
        self.name = "simulated device, not a GPU"
        self.device = torch.device("cpu")
        self.tiles = allocate_tiles(batch, side, torch.uint8, self.device)
        self._stream = device.compute
        self._batch_s = batch_s

    def infer(self, count: int) -> Tensor:
        """As `Engine`."""
        self._stream.run(self._batch_s)
        return self.tiles[:count, 0].float() / 255

    def halve_batch(self) -> None:
        """As `Engine`."""
        self.tiles = self.tiles[: max(1, len(self.tiles) // 2)]


class SimulatedArrivals(FrameBuffer):
    """A buffer into which frames come at given instants of a simulated clock; who waits at it lets the clock run."""

    def __init__(self, clock: SimulatedClock, arrivals: Sequence[tuple[float, Ticket]], *, begin_s: float) -> None:
        """`arrivals` in their order; the host takes `begin_s` to begin a frame: it is spent when one is handed over."""
        super().__init__(1 << 40, WhenFull.BLOCK)
        self._clock = clock
        self._coming = deque(arrivals)
        self._begin_s = begin_s

    def get(self, timeout_s: float, place: int = 0) -> Ticket | None:
        """As `FrameBuffer`."""
        self._let_in()
        if not len(self):
            until_s = self._clock.now_s + timeout_s
            self._clock.wait_until(min(until_s, self._coming[0][0]) if self._coming else until_s)
            self._let_in()
        ticket = super().get(0.0, place)
        if ticket is not None:
            self._clock.spend(self._begin_s)
        return ticket

    def _let_in(self) -> None:
        while self._coming and self._coming[0][0] <= self._clock.now_s:
            self.put(self._coming.popleft()[1])


@dataclass(frozen=True, slots=True)
class Answer:
    """What one frame of a simulated line got, and how long after it came."""

    frame_id: str
    verdict: Verdict
    latency_ms: float


class SimulatedLine:
    """Frames that come at a steady rate to a real worker whose device is simulated. Run in the caller's thread."""

    def __init__(
        self, device: SimulatedDevice, ledger: Ledger, frames: Sequence[Frame], *, period_s: float, begin_s: float
    ) -> None:
        """One of `frames` each `period_s` from now on; the host takes `begin_s` for each."""
        self._clock = device.clock
        self._ledger = ledger
        start_s = device.clock.now_s
        self._came_s = {frame.frame_id: start_s + number * period_s for number, frame in enumerate(frames)}
        arrivals = [(self._came_s[frame.frame_id], ledger.accept(frame)) for frame in frames]
        self.buffer = SimulatedArrivals(device.clock, arrivals, begin_s=begin_s)
        self.answers: list[Answer] = []

    def submit(self, outcome: Outcome) -> None:
        """The worker's way out: note when, and close the frame's account."""
        frame_id = outcome.ticket.frame.frame_id
        latency_ms = (self._clock.now_s - self._came_s[frame_id]) * 1e3
        self.answers.append(Answer(frame_id, outcome.verdict, latency_ms))
        self._ledger.close(outcome.ticket, outcome.verdict, outcome.reason)

    def run(self, worker: DeviceWorker) -> list[Answer]:
        """Until each frame has its verdict; what the worker raises ends it."""
        while len(self.answers) < len(self._came_s):
            worker.step()
        return self.answers


def summarise_latency(answers: Sequence[Answer]) -> dict[str, Any]:
    """p50, p90, p99 and the highest latency (ms), and by how much the last tenth's median is above the first's."""
    latencies = np.array([answer.latency_ms for answer in answers])
    tenth = max(1, len(latencies) // 10)
    p50, p90, p99 = np.percentile(latencies, (50, 90, 99)).tolist()
    growth = float(np.median(latencies[-tenth:]) - np.median(latencies[:tenth]))
    return {"p50": p50, "p90": p90, "p99": p99, "max": float(latencies.max()), "growth": growth}
