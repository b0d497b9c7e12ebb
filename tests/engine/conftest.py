"""What the tests of the engines share: a network in which everything does something, tiles, and OpenVINO's graphs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import openvino as ov
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from inspector.config import Recipe
from inspector.engine import openvino
from inspector.engine.base import Engine, Precision
from inspector.engine.eager import EagerEngine
from inspector.engine.network import DistanceNetwork, MapNetwork
from inspector.engine.openvino import OpenVinoEngine
from inspector.model import ReverseDistillation

SIDE = 64
CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Graphs = dict[str, ov.Model]


@pytest.fixture(scope="session")
def make_model() -> Callable[..., ReverseDistillation]:
    """A random network with BatchNorms that do something; the arguments are the network's."""

    def make(backbone: str = "resnet18", **changes: Any) -> ReverseDistillation:
        torch.manual_seed(3)
        options = {"input_size": (SIDE, SIDE), "pre_trained": False, "sigma": 2.0}
        model = ReverseDistillation(backbone, **(options | changes))
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 1.5)
                part.weight.data.uniform_(0.5, 1.5)
                part.bias.data.normal_(0, 0.1)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def model(make_model: Callable[..., ReverseDistillation]) -> ReverseDistillation:
    """Not to be changed."""
    return make_model()


@pytest.fixture(scope="session")
def make_tiles() -> Callable[..., Tensor]:
    """Random tiles (count, 3, 64, 64)."""

    def make(count: int, *, seed: int = 0, dtype: torch.dtype = torch.uint8) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=generator).to(dtype)

    return make


@pytest.fixture(scope="session")
def infer() -> Callable[[Engine, Tensor], Tensor]:
    """Maps of tiles, one batch; a copy."""

    def run(engine: Engine, tiles: Tensor) -> Tensor:
        engine.tiles[: len(tiles)].copy_(tiles)
        return engine.infer(len(tiles)).clone()

    return run


@pytest.fixture(scope="session")
def make_eager(model: ReverseDistillation) -> Callable[..., EagerEngine]:
    """The reference engine."""

    def make(*, batch: int = 8, dtype: torch.dtype = torch.uint8, network: nn.Module = model) -> EagerEngine:
        return EagerEngine(network, MEAN, STD, side=SIDE, dtype=dtype, device=CPU, batch=batch)

    return make


@pytest.fixture(scope="session")
def reference(make_eager: Callable[..., EagerEngine], infer: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
    """Maps of tiles by the reference engine."""
    return lambda tiles: infer(make_eager(batch=len(tiles), dtype=tiles.dtype), tiles)


@pytest.fixture(scope="session")
def convert() -> Callable[..., Graphs]:
    """OpenVINO's graphs of a network, for bytes unless told otherwise."""

    def convert(model: ReverseDistillation, dtype: torch.dtype = torch.uint8) -> Graphs:
        distances, maps = DistanceNetwork(model, MEAN, STD), MapNetwork(model.anomaly_map)
        return openvino.convert(distances, maps, side=SIDE, dtype=dtype)

    return convert


@pytest.fixture(scope="session")
def graphs(convert: Callable[..., Graphs], model: ReverseDistillation) -> Graphs:
    """OpenVINO's graphs of `model`, for bytes."""
    return convert(model)


@pytest.fixture(scope="session")
def float_graphs(convert: Callable[..., Graphs], model: ReverseDistillation) -> Graphs:
    """OpenVINO's graphs of `model`, for Mono16."""
    return convert(model, torch.float32)


@pytest.fixture(scope="session")
def make_openvino(graphs: Graphs) -> Callable[..., OpenVinoEngine]:
    """The CPU engine."""

    def make(
        precision: Precision = Precision.FP32,
        *,
        of: Graphs = graphs,
        dtype: torch.dtype = torch.uint8,
        batch: int | None = 8,
    ) -> OpenVinoEngine:
        return OpenVinoEngine(of, precision, side=SIDE, dtype=dtype, batch=batch)

    return make


@pytest.fixture
def recipe_of() -> Callable[..., Recipe]:
    """A recipe of `model`."""

    def make(**changes: Any) -> Recipe:
        values = {
            "recipe_id": "tiny",
            "backbone": "resnet18",
            "sigma": 2.0,
            "tiling": {"tile_size": SIDE, "stride": SIDE},
            "preprocessing": {"normalisation": {"mean": MEAN, "std": STD}},
            "weights_sha256": "0" * 64,
        }
        return Recipe.model_validate(values | changes)

    return make


class Recorder(TorchDispatchMode):
    """Every operation of torch, with the memory that it read and wrote: what a CUDA graph is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, results))
        return results


class FakeGraph:
    """Replays the operations on the memory they had at capture, as a CUDA graph does: nothing else is looked at."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.replays = 0

    @torch.inference_mode()
    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, results in self.recorder.operations:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(results), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():  # else a view, or written in place
                    old.copy_(new)


class FakeCuda:
    """Streams, events and graphs whose calls are written down, in their order, and that do their work at once."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.graphs: list[FakeGraph] = []
        self.capture_error_modes: list[str] = []
        self.events = 0
        self.elapsed_ms: list[float] = []
        self.current = FakeStream(self, "compute")

    def build_stream(self, device: torch.device, priority: int = 0) -> FakeStream:
        return FakeStream(self, "side" if priority else "copy")

    def build_event(self, *, enable_timing: bool = False) -> FakeEvent:
        self.events += 1
        return FakeEvent(self, f"event {self.events}")

    def build_graph(self) -> FakeGraph:
        self.graphs.append(FakeGraph())
        return self.graphs[-1]

    @contextlib.contextmanager
    def capture(self, graph: FakeGraph, stream: FakeStream, capture_error_mode: str) -> Iterator[None]:
        self.calls.append(f"capture on {stream.name}")
        self.capture_error_modes.append(capture_error_mode)
        with self.use_stream(stream), graph.recorder:
            yield

    @contextlib.contextmanager
    def use_stream(self, stream: FakeStream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before


class FakeStream:
    def __init__(self, cuda: FakeCuda, name: str) -> None:
        self.name = name
        self._cuda = cuda

    def wait_stream(self, other: FakeStream) -> None:
        self._cuda.calls.append(f"{self.name} waits for {other.name}")

    def wait_event(self, event: FakeEvent) -> None:
        self._cuda.calls.append(f"{self.name} waits for {event.name}")


class FakeEvent:
    def __init__(self, cuda: FakeCuda, name: str) -> None:
        self.name = name
        self._cuda = cuda

    def record(self, stream: FakeStream) -> None:
        self._cuda.calls.append(f"{self.name} on {stream.name}")

    def query(self) -> bool:
        return True

    def elapsed_time(self, end: FakeEvent) -> float:
        return self._cuda.elapsed_ms.pop(0) if self._cuda.elapsed_ms else 1.0

    def synchronize(self) -> None:
        self._cuda.calls.append(f"host waits for {self.name}")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """In the place of torch.cuda, for code that is given the CPU as its device."""
    fake = FakeCuda()
    monkeypatch.setattr(torch.cuda, "Stream", fake.build_stream)
    monkeypatch.setattr(torch.cuda, "Event", fake.build_event)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", fake.build_graph)
    monkeypatch.setattr(torch.cuda, "graph", fake.capture)
    monkeypatch.setattr(torch.cuda, "stream", fake.use_stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: fake.current)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: fake.calls.append("empty cache"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: fake.calls.append("host waits for all"))
    monkeypatch.setattr("inspector.engine.download._pin", torch.empty_like)  # there is nothing to pin memory for
    for name in ("benchmark", "allow_tf32"):
        monkeypatch.setattr(torch.backends.cudnn, name, getattr(torch.backends.cudnn, name))  # put back at the end
    return fake
