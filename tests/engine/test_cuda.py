"""The CUDA engine's own code, on the CPU: streams, events and graphs are fakes that do what CUDA's do."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inspector.config import Recipe
from inspector.detection.detector import Detector
from inspector.device import Driver
from inspector.engine import cuda as cuda_engine
from inspector.engine.base import Precision
from inspector.engine.build import build_eager
from inspector.engine.cuda import CudaBench, CudaEngine, Kernels
from inspector.engine.eager import EagerEngine
from inspector.engine.fusion import REFERENCE, Form, Layer, Operators
from inspector.engine.network import DistanceNetwork, Finish, Forward, MapNetwork
from inspector.errors import KernelsError
from inspector.model import ReverseDistillation
from inspector.types import Fallback, PixelFormat, Verdict

CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Make = Callable[..., CudaEngine]
MakeTiles = Callable[..., Tensor]
Infer = Callable[..., Tensor]
Reference = Callable[[Tensor], Tensor]


@pytest.fixture
def make(cuda: Any, model: ReverseDistillation) -> Make:
    def build(
        precision: Precision = Precision.FP32,
        *,
        batch: int = 4,
        dtype: torch.dtype = torch.uint8,
        kernels: Kernels = Kernels.OWN,
        operators: Operators = REFERENCE,
        cache: Path | None = None,
    ) -> CudaEngine:
        options = {"side": 64, "dtype": dtype, "device": CPU, "batch": batch}
        return CudaEngine(model, MEAN, STD, precision, **options, kernels=kernels, operators=operators, cache=cache)

    return build


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_maps_equal_the_references_when_in_fp32(
    make: Make, make_tiles: MakeTiles, infer: Infer, reference: Reference, dtype: torch.dtype
) -> None:
    engine, tiles = make(dtype=dtype), make_tiles(4, dtype=dtype)
    assert (engine.precision, engine.name) == ("fp32", "CUDA graph of torch's own kernels on a GPU")
    maps = infer(engine, tiles)
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps, reference(tiles), rtol=0, atol=1e-4)


def test_maps_equal_the_references_when_the_student_is_light(
    cuda: Any,
    make_model: Callable[..., ReverseDistillation],
    make_eager: Callable[..., EagerEngine],
    make_tiles: MakeTiles,
    infer: Infer,
) -> None:
    light, tiles = make_model(student="light"), make_tiles(4)
    settings: dict[str, Any] = {"side": 64, "dtype": torch.uint8, "device": CPU, "batch": 4, "kernels": Kernels.OWN}
    engine = CudaEngine(light, MEAN, STD, Precision.FP32, **settings)
    torch.testing.assert_close(infer(engine, tiles), infer(make_eager(network=light), tiles), rtol=0, atol=1e-4)


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP16])
def test_maps_are_near_the_references_when_in_half_precision(
    make: Make, make_tiles: MakeTiles, infer: Infer, reference: Reference, precision: Precision
) -> None:
    tiles = make_tiles(4)
    maps, expected = infer(make(precision), tiles), reference(tiles)
    error = float((maps - expected).abs().max() / (expected.max() - expected.min()))
    assert maps.dtype == torch.float32
    assert 1e-5 < error < 0.05
    assert len(maps.unique()) > 1000  # the map itself is not in half precision


def test_maps_are_the_same_when_the_batch_is_partial(
    make: Make, make_tiles: MakeTiles, infer: Infer, cuda: Any
) -> None:
    engine, tiles = make(), make_tiles(4)
    full = infer(engine, tiles)
    for count in (1, 3):
        engine.tiles.copy_(make_tiles(4, seed=count))  # what an earlier batch left in the other places
        partial = infer(engine, tiles[:count])
        torch.testing.assert_close(partial, full[:count], rtol=0, atol=1e-6)
    (graph,) = cuda.graphs
    assert graph.replays == 3


def test_nothing_new_is_allocated_when_batches_follow(make: Make, make_tiles: MakeTiles) -> None:
    engine = make()
    tiles = engine.tiles.data_ptr()
    outputs = set()
    maps = []
    for seed in range(3):
        engine.tiles.copy_(make_tiles(4, seed=seed))
        outputs.add(engine.infer(4).data_ptr())
        maps.append(engine.infer(2).clone())
    assert len(outputs) == 1
    assert engine.tiles.data_ptr() == tiles
    assert not torch.equal(maps[0], maps[1])


def test_capture_comes_after_warming_up_on_a_stream_of_its_own(make: Make, cuda: Any) -> None:
    make()
    assert cuda.calls == ["copy waits for compute", "host waits for all", "capture on copy", "compute waits for copy"]


def test_other_threads_may_use_the_device_while_a_graph_is_captured(make: Make, cuda: Any) -> None:
    make().halve_batch()
    assert cuda.capture_error_modes == ["thread_local"] * 2


def test_map_is_nan_when_a_pixel_is(make: Make, make_tiles: MakeTiles, infer: Infer) -> None:
    for precision in (Precision.FP32, Precision.BF16):
        tiles = make_tiles(2, dtype=torch.float32)
        tiles[0, 1, 30, 40] = torch.nan
        maps = infer(make(precision, batch=2, dtype=torch.float32), tiles)
        assert bool(maps[0].isnan().any())
        assert bool(maps[1].isfinite().all())


def test_network_is_traced_whole_when_compiled(
    monkeypatch: pytest.MonkeyPatch, model: ReverseDistillation, make_tiles: MakeTiles, reference: Reference
) -> None:
    given: dict[str, Any] = {}
    compile_ = torch.compile

    def trace(network: Any, *, options: Any, **others: Any) -> Any:  # all of the compiler but the making of kernels
        given.update(others, options=options)
        return compile_(network, backend="eager", **others)

    monkeypatch.setattr(torch, "compile", trace)
    network = Forward(DistanceNetwork(model, MEAN, STD), MapNetwork(model.anomaly_map))
    tiles = make_tiles(2)
    run = cuda_engine._compile(network, tiles)
    no_templates = {
        "max_autotune": False,
        "max_autotune_gemm_backends": "ATEN",
        "max_autotune_conv_backends": "ATEN",
    }
    assert given == {"dynamic": False, "fullgraph": True, "options": no_templates}
    with torch.inference_mode():
        torch.testing.assert_close(run(tiles), reference(tiles), rtol=0, atol=1e-4)


def test_ends_of_the_fused_network_are_traced_whole_when_compiled(
    monkeypatch: pytest.MonkeyPatch, model: ReverseDistillation, make_tiles: MakeTiles, reference: Reference
) -> None:
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda step, *, options, **others: compile_(step, backend="eager", **others))
    network, tiles = DistanceNetwork(model, MEAN, STD), make_tiles(2)
    normalise = cuda_engine._compile(network.normalise, tiles)
    with torch.inference_mode():
        features = network.features(normalise(tiles))
        finish = cuda_engine._compile(Finish(MapNetwork(model.anomaly_map)), *features)
        torch.testing.assert_close(finish(*features), reference(tiles), rtol=0, atol=1e-4)


def test_inductor_knows_each_option_that_it_is_given() -> None:
    torch.compile(nn.Identity(), options=cuda_engine._INDUCTOR)  # refuses an option or a type that it does not know


@pytest.fixture
def dynamo() -> Iterator[Any]:
    """Fresh, and put back as it was."""
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.reset()
    yield torch._dynamo
    torch._dynamo.config.recompile_limit = limit
    torch._dynamo.reset()


class _Doubling(nn.Module):
    def forward(self, tiles: Tensor) -> Tensor:
        return 2 * tiles


def test_the_twelfth_recipe_is_compiled_as_the_first(monkeypatch: pytest.MonkeyPatch, dynamo: Any) -> None:
    compile_, graphs = torch.compile, []

    def count(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(
        torch, "compile", lambda network, *, options, **others: compile_(network, backend=count, **others)
    )
    for side in range(1, 13):  # another tile size each: a variant of the same code
        tiles = torch.ones(1, 3, side, side)
        run = cuda_engine._compile(_Doubling(), tiles)
        with torch.inference_mode():
            assert torch.equal(run(tiles), 2 * tiles)
    assert len(graphs) == 12


class FakeBench:
    """A GPU on which the plain form of each layer takes `plain_s`, and every other one a second."""

    plain_s = 2.0
    ran: Form

    def __init__(self, device: torch.device) -> None:
        pass

    def time(self, step: Callable[[], object]) -> float:
        step()
        return self.plain_s if FakeBench.ran is Form.PLAIN else 1.0

    def poison(self, like: Tensor) -> None:
        pass


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Fused forms are faster; what is compiled, in its order: it stays as it is."""
    compiled: list[Any] = []
    run = Layer.run

    def note(layer: Layer, form: Form, *inputs: Tensor) -> Tensor:
        FakeBench.ran = form
        return run(layer, form, *inputs)

    monkeypatch.setattr(Layer, "run", note)
    monkeypatch.setattr(cuda_engine, "CudaBench", FakeBench)
    monkeypatch.setattr(cuda_engine, "_compile", lambda step, *inputs: compiled.append(step) or step)
    return compiled


def count_calls(calls: list[str]) -> Operators:
    """The reference's operators, which write down that they were called."""

    def count(name: str) -> Callable[..., Tensor]:
        return lambda *args: calls.append(name) or getattr(REFERENCE, name)(*args)

    names = ("convolve_relu", "convolve_add_relu", "multiply_relu")
    return replace(REFERENCE, **{name: count(name) for name in names})


def test_fused_kernels_give_the_references_maps(
    fast: list[Any],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    make: Make,
    make_tiles: MakeTiles,
    infer: Infer,
    reference: Reference,
) -> None:
    calls: list[str] = []
    with caplog.at_level(logging.INFO):
        engine = make(kernels=Kernels.FUSED, operators=count_calls(calls), cache=tmp_path)
    assert (engine.name, engine.fallback) == ("CUDA graph of fused kernels on a GPU", Fallback.NONE)
    assert len(fast) == 2  # what comes before the convolutions, and after them
    assert not engine.tiles.any()
    assert "layers: 29 as convolution, 3 as plain, 6 as product" in caplog.text
    (path,) = tmp_path.glob("layers-*.json")
    assert Counter(json.loads(path.read_bytes()).values())["convolution"] > 10
    calls.clear()
    engine._run(engine.tiles)
    assert Counter(calls) == {"convolve_relu": 15, "convolve_add_relu": 14, "multiply_relu": 3}
    tiles = make_tiles(4)
    torch.testing.assert_close(infer(engine, tiles), reference(tiles), rtol=0, atol=1e-4)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
@pytest.mark.usefixtures("fast")
def test_map_of_fused_kernels_is_nan_when_a_pixel_is(
    make: Make, make_tiles: MakeTiles, infer: Infer, precision: Precision
) -> None:
    tiles = make_tiles(2, dtype=torch.float32)
    tiles[0, 1, 30, 40] = torch.nan
    maps = infer(make(precision, batch=2, dtype=torch.float32, kernels=Kernels.FUSED), tiles)
    assert bool(maps[0].isnan().any())
    assert bool(maps[1].isfinite().all())


@pytest.mark.usefixtures("fast")
def test_fused_kernels_are_refused_when_no_layer_is_faster(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    monkeypatch.setattr(FakeBench, "plain_s", 0.5)
    with pytest.raises(KernelsError, match="fused kernels cannot run: only 0 of 35 layers are known to be right"):
        make(kernels=Kernels.FUSED)


@pytest.mark.usefixtures("fast")
def test_fused_kernels_are_refused_when_they_cannot_be_captured(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    monkeypatch.setattr(CudaEngine, "_capture", fail_with(RuntimeError("operation not permitted when stream is")))
    with pytest.raises(KernelsError, match="fused kernels cannot run: operation not permitted"):
        make(kernels=Kernels.FUSED)
    with pytest.raises(RuntimeError, match="operation not permitted"):  # the device's fault with all others
        make(kernels=Kernels.COMPILED)


@pytest.mark.usefixtures("fast")
def test_fused_kernels_are_refused_when_they_have_no_room(make: Make) -> None:
    operators = replace(REFERENCE, convolve_relu=fail_with(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(KernelsError, match="fused kernels cannot run: CUDA out of memory"):
        make(kernels=Kernels.FUSED, operators=operators)


@pytest.mark.usefixtures("fast")
def test_fused_convolutions_run_between_own_kernels_when_compiling_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, make: Make
) -> None:
    monkeypatch.setattr(cuda_engine, "_compile", fail_with(RuntimeError("no compiler found")))
    engine = make(kernels=Kernels.FUSED)
    assert (engine.name, engine.fallback) == ("CUDA graph of fused kernels on a GPU", Fallback.NOT_COMPILED)
    assert caplog.text.count("no compiler found") == 1


@pytest.mark.usefixtures("fast")
def test_nothing_is_fused_anew_when_the_batch_is_halved(
    make: Make, make_tiles: MakeTiles, infer: Infer, reference: Reference
) -> None:
    calls: list[str] = []
    engine = make(kernels=Kernels.FUSED, operators=count_calls(calls))
    calls.clear()
    engine.halve_batch()
    tiles = make_tiles(2)
    torch.testing.assert_close(infer(engine, tiles), reference(tiles), rtol=0, atol=1e-4)
    assert calls == []  # another batch might be run by other kernels of cuDNN's, which nobody tried out


@pytest.mark.usefixtures("cuda")
def test_forms_are_remembered_by_gpu_driver_and_versions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    changes: list[tuple[Any, ...]] = [
        (cuda_engine, "read_driver", lambda: None),  # as it is here
        (torch.cuda, "get_device_name", lambda device: "another"),
        (torch.backends.cudnn, "version", lambda: 99999),
        (torch, "__version__", "9.9"),
        (cuda_engine, "read_driver", lambda: Driver("999.1", 13)),
    ]
    for change in changes:
        with monkeypatch.context() as patch:
            patch.setattr(*change)
            memory = cuda_engine.open_memory(tmp_path, CPU)
            assert memory.get("layer") is None
            memory.put("layer", "product")
            memory.save()
    assert cuda_engine.open_memory(tmp_path, CPU).get("layer") == "product"
    assert len(list(tmp_path.glob("layers-*.json"))) == len(changes)


def test_layer_is_timed_in_a_graph_by_the_devices_clock(cuda: Any) -> None:
    cuda.elapsed_ms = [30.0, 20.0, 25.0]
    runs = []
    assert CudaBench(CPU).time(lambda: runs.append("run")) == pytest.approx(0.004)
    (graph,) = cuda.graphs
    assert graph.replays == 2
    assert len(runs) == 3 + 5  # warm-ups and the capture


def test_compiled_kernels_run_when_they_can_be_had(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    runs = []

    def compile_(network: Any, tiles: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda tiles: runs.append(len(tiles)) or network(tiles)

    monkeypatch.setattr(cuda_engine, "_compile", compile_)
    make(kernels=Kernels.COMPILED)
    assert runs == [4] * 4  # three warm-ups and the capture


def test_own_kernels_run_with_a_warning_when_compiling_fails(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    make: Make,
    make_tiles: MakeTiles,
    infer: Infer,
    reference: Reference,
) -> None:
    monkeypatch.setattr(cuda_engine, "_compile", fail_with(RuntimeError("no compiler found")))
    with caplog.at_level(logging.WARNING):
        engine = make(kernels=Kernels.COMPILED)
    assert "torch.compile failed, so torch's own kernels run, which are slower: no compiler found" in caplog.text
    assert "torch's own kernels" in engine.name
    assert engine.fallback is Fallback.NOT_COMPILED
    tiles = make_tiles(3)
    torch.testing.assert_close(infer(engine, tiles), reference(tiles), rtol=0, atol=1e-4)


def test_memory_fault_is_raised_when_compiling(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, make: Make
) -> None:
    monkeypatch.setattr(cuda_engine, "_compile", fail_with(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        make(kernels=Kernels.COMPILED)
    assert caplog.text == ""


def fail_with(error: Exception) -> Callable[..., Any]:
    def fail(*args: Any) -> Any:
        raise error

    return fail


def test_graph_is_captured_anew_when_the_batch_is_halved(
    make: Make, cuda: Any, make_tiles: MakeTiles, infer: Infer, reference: Reference
) -> None:
    engine, tiles = make(batch=5), make_tiles(5)
    expected = reference(tiles)
    for graphs, count in ((2, 2), (3, 1), (4, 1)):
        cuda.calls.clear()
        engine.halve_batch()
        assert len(cuda.graphs) == graphs
        assert cuda.calls[0] == cuda.calls[-1] == "empty cache"  # what others held, and in the end the old graph
        assert len(engine.tiles) == count
        assert engine.tiles.untyped_storage().nbytes() == count * 3 * 64 * 64  # the rest was given back
        assert engine.tiles.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(infer(engine, tiles[:count]), expected[:count], rtol=0, atol=1e-4)
    assert [graph.replays for graph in cuda.graphs] == [0, 1, 1, 1]


@pytest.mark.parametrize("message", ["CUDA out of memory", "CUDA error: out of memory", "CUDNN_STATUS_ALLOC_FAILED"])
def test_old_batch_goes_on_when_there_is_no_room_for_a_smaller_one(
    monkeypatch: pytest.MonkeyPatch,
    make: Make,
    make_tiles: MakeTiles,
    infer: Infer,
    reference: Reference,
    message: str,
) -> None:
    engine, tiles = make(batch=4), make_tiles(4)
    expected = reference(tiles)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_capture", fail_with(RuntimeError(message)))
        for _ in range(2):  # of the next frame, too
            with pytest.raises(RuntimeError, match=message):
                engine.halve_batch()
    assert len(engine.tiles) == 4
    torch.testing.assert_close(infer(engine, tiles), expected, rtol=0, atol=1e-4)
    engine.halve_batch()  # memory is back
    torch.testing.assert_close(infer(engine, tiles[:2]), expected[:2], rtol=0, atol=1e-4)


def test_kernels_are_not_tried_out_when_the_batch_is_halved(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    engine, tried = make(), []
    forward = engine._forward.forward
    monkeypatch.setattr(
        engine._forward, "forward", lambda tiles: tried.append(torch.backends.cudnn.benchmark) or forward(tiles)
    )
    engine.halve_batch()
    assert tried == [False] * 4
    assert torch.backends.cudnn.benchmark


def test_nothing_is_compiled_when_the_batch_is_halved(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    compiled = []
    monkeypatch.setattr(cuda_engine, "_compile", lambda network, tiles: compiled.append(len(tiles)) or network)
    make(kernels=Kernels.COMPILED).halve_batch()
    assert compiled == [4]


def test_model_is_untouched_when_the_engine_is_in_half_precision(make: Make, model: ReverseDistillation) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    make(Precision.BF16)
    for name, value in model.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name]), name


def test_frames_in_flight_are_judged_as_on_the_host(
    make: Make, cuda: Any, recipe_of: Callable[..., Recipe], model: ReverseDistillation
) -> None:
    frames = [np.random.default_rng(seed).integers(0, 256, (100, 150, 3), dtype=np.uint8) for seed in range(3)]
    tiling = {"tile_size": 64, "stride": 48}
    recipe = recipe_of(tiling=tiling, threshold={"value": 1.0, "method": "manual"})
    on_host = Detector(recipe, build_eager(recipe, model))
    expected = [on_host.judge(frame, PixelFormat.RGB8) for frame in frames]
    scores = [judgement.decision.score for judgement in expected]
    threshold = {"value": sum(scores) / 3, "method": "manual"}  # so that one passes at least, and one fails

    detector = Detector(recipe_of(tiling=tiling, threshold=threshold), make())
    runs = [detector.begin(frame, PixelFormat.RGB8) for frame in frames]
    while not all(run.is_done for run in runs):
        detector.advance([run for run in runs if not run.is_done])
    cuda.calls.clear()
    judgements = [detector.finish(run) for run in runs]
    assert [run.is_ready for run in runs] == [True] * 3
    assert {judgement.decision.verdict for judgement in judgements} == {Verdict.PASS, Verdict.FAIL}
    failed = sum(judgement.decision.verdict is Verdict.FAIL for judgement in judgements)
    fetches = [call for call in cuda.calls if call.startswith("side waits")]
    assert len(fetches) == failed  # some blocks of those that fail; a map stays there until it is asked for
    for found, right in zip(judgements, expected, strict=True):
        assert found.decision.score == pytest.approx(right.decision.score, abs=1e-5)
        np.testing.assert_allclose(found.anomaly_map, right.anomaly_map, rtol=0, atol=1e-4)
    assert sum(call.startswith("side waits") for call in cuda.calls) == failed + 3
