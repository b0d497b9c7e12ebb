"""The benchmark of speed: what it measures is the same network, and its numbers add up."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from inspector.config import Threshold
from inspector.detection.detector import Detector
from inspector.testing.simulated_device import SimulatedDevice, SimulatedEngine

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the scripts importable, as they are to each other when one is run."""
    pytest.importorskip("anomalib")
    pytest.importorskip("openvino")
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.mark.usefixtures("benchmarks")
def test_both_run_the_same_network_and_ours_keeps_the_reference_map_in_fp32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load("_machine"), "_SIDE_CPU", 128)  # how fast this machine is matters to no one here
    path = tmp_path / "out.json"
    arguments = ["--frame-hw", "96", "160", "--tile", "64", "--stride", "64", "--frames", "2", "--batch", "2"]
    load("throughput").main([*arguments, "--stage", "--no-memory", "--json", str(path)])
    content = json.loads(path.read_text())
    assert content["same_weights_max_difference"] < 1e-5
    assert list(content["methods"]) == ["anomalib", "fp32"]
    theirs, ours = content["methods"].values()
    assert ours["map_max_difference"] < 1e-4
    assert abs(ours["score_difference"]) < 1e-4
    assert (theirs["tiles_per_frame"], ours["tiles_per_frame"]) == (6, 6)
    assert ours["tiles_per_s"] == pytest.approx(6 * ours["frames_per_s"])
    assert ours["frames_per_s_ratio"] == pytest.approx(ours["frames_per_s"] / theirs["frames_per_s"])
    assert ours["flop_per_s"] == pytest.approx(content["flops_per_tile"] * ours["tiles_per_s"])
    stages = content["stages_ms"]["fp32"]
    assert [stage for stage, milliseconds in stages.items() if milliseconds is None] == ["upload", "download"]
    assert min(stages[part] for part in ("encoder", "bottleneck", "decoder", "distances", "map")) > 0


@pytest.mark.usefixtures("benchmarks")
def test_nodes_go_to_the_stage_of_their_convolution_when_named_so() -> None:
    seconds = load("_stages").attribute(
        [
            ("sub_2/aten.sub.Tensor/Subtract", 1.0),
            ("convolution/aten.convolution.default/Convolution", 2.0),
            ("convolution_1/aten.convolution.default/Convolution_f32_bf16_cat/aten.cat.default/Concat", 4.0),
            ("cat/aten.cat.default/Concat", 8.0),
            (
                "convolution_1/aten.convolution.default/Convolution_bf16_f32_convolution_2/aten.convolution.default/x",
                16.0,
            ),
            ("relu_20/aten.relu.default/Relu", 32.0),
            ("convolution_3/aten.convolution.default/ConvolutionBackpropData", 64.0),
            ("mul_309/aten.mul.Tensor/Multiply", 128.0),
        ],
        (2, 1, 1),
    )
    assert seconds == {"encoder": 7.0, "bottleneck": 56.0, "decoder": 64.0, "distances": 128.0}


@pytest.mark.usefixtures("benchmarks")
@pytest.mark.parametrize(("tf32", "expected"), [(True, (False, True)), (False, (False, False))])
def test_peer_runs_with_tf32_as_torch_sets_it_and_ours_keeps_it_forbidden(
    monkeypatch: pytest.MonkeyPatch, tf32: bool, expected: tuple[bool, bool]
) -> None:
    methods = load("_methods")
    monkeypatch.setattr(methods, "_TF32_AS_TORCH_SETS_IT", (False, True))
    case = methods.Case(frame_hw=(64, 64), tile=64, stride=64)
    peer = methods.Peer(case, methods.build_recipe(case)[0], 1.0, tf32=tf32)
    assert peer.name == ("anomalib" if tf32 else "anomalib without TF32")
    seen = []

    def note(images: torch.Tensor) -> SimpleNamespace:
        seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        return SimpleNamespace(anomaly_map=images, pred_score=torch.zeros(1))

    peer.model = note
    with methods.tf32_set(matmul=False, convolutions=False):  # as our engines leave it
        peer.judge(np.zeros((64, 64, 3), np.uint8))
        assert seen == [expected]
        assert not torch.backends.cudnn.allow_tf32


@pytest.mark.usefixtures("benchmarks")
@pytest.mark.parametrize(("flags", "is_measured"), [("sse avx2 avx512_vnni", True), ("sse avx2", False)])
def test_int8_is_compared_with_the_machine_only_where_it_multiplies_bytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, is_measured: bool
) -> None:
    machine, precision = load("_machine"), load("throughput").Precision
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    assert machine.has_int8(tmp_path / "cpuinfo") is is_measured
    monkeypatch.setattr(machine, "has_int8", lambda: is_measured)
    monkeypatch.setattr(machine, "_time_matmul", lambda *_: 1.0)
    assert (machine.measure_matmul(torch.device("cpu"), precision.INT8) is not None) is is_measured


@pytest.mark.usefixtures("benchmarks")
def test_quick_says_what_it_gives_up(capsys: pytest.CaptureFixture[str]) -> None:
    options = load("throughput").parse(["--quick", "--stage"])
    assert (options.frames, options.frame_hw, options.no_memory, options.stage) == (3, (1024, 1224), True, False)
    assert "without memory, stages and a p99" in capsys.readouterr().err


@pytest.mark.usefixtures("benchmarks")
def test_frames_are_judged_alike_one_by_one_and_several_at_once() -> None:
    methods = load("_methods")
    device = SimulatedDevice()
    recipe = methods.build_recipe(methods.Case(frame_hw=(64, 64), tile=64, stride=64))[0]
    recipe = recipe.model_copy(update={"threshold": Threshold(value=0.5, method="manual")})
    ours = object.__new__(methods.Ours)
    ours.detector = Detector(recipe, SimulatedEngine(device, batch=4, side=64, batch_s=1.0), downloads=device)
    frames = [np.full((128, 128, 3), value, np.uint8) for value in (0, 255, 0, 255, 255)]
    assert sum(map(ours.judge, frames)) == 3
    assert ours.judge_all(frames) == 3
    assert device.compute.busy_s == pytest.approx(10.0, abs=0.1)


@pytest.mark.usefixtures("benchmarks")
def test_peer_runs_its_own_network_where_ours_has_the_official_width(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(load("_machine"), "_SIDE_CPU", 128)
    path = tmp_path / "out.json"
    size = ["--frame-hw", "64", "64", "--tile", "64", "--stride", "64", "--frames", "1", "--batch", "1"]
    load("throughput").main([*size, "--bottleneck", "official", "--no-memory", "--json", str(path)])
    content = json.loads(path.read_text())
    assert content["case"]["width"] == "official"
    assert content["same_weights_max_difference"] is None
    assert content["methods"]["anomalib"]["share_of_matmul"] is None
    assert content["methods"]["fp32"]["map_max_difference"] < 1e-4


@pytest.mark.usefixtures("benchmarks")
def test_peer_runs_its_own_network_where_ours_has_the_light_student() -> None:
    methods, throughput = load("_methods"), load("throughput")
    options = throughput.parse(["--student", "light", "--frame-hw", "64", "64", "--tile", "64", "--stride", "64"])
    case = throughput.build_case(options)
    recipe, model = methods.build_recipe(case)
    assert (case.is_the_peers_network, recipe.student) == (False, "light")
    assert sum(values.numel() for values in model.trained_parameters()) == 4_312_256


@pytest.mark.usefixtures("benchmarks")
def test_runs_are_timed_by_clock_and_cpu_time_in_turn_when_they_are_compared() -> None:
    pytest.importorskip("nncf")
    order: list[str] = []
    runs = {"sleeps": lambda: time.sleep(0.05), "works": lambda: sum(range(200_000))}
    noted = {name: lambda name=name, run=run: (order.append(name), run()) for name, run in runs.items()}
    durations = load("network").time_runs(noted, 3)
    assert order == ["sleeps", "works", "works", "sleeps", "sleeps", "works"]
    assert durations["sleeps"][0] >= 0.05
    assert durations["works"][1] > 0


@pytest.mark.usefixtures("benchmarks")
def test_peers_network_for_openvino_gives_the_maps_of_its_own() -> None:
    pytest.importorskip("nncf")
    methods, network = load("_methods"), load("network")
    case = methods.Case(frame_hw=(64, 64), tile=64, stride=64)
    recipe, model = methods.build_recipe(case)
    peer = methods.Peer(case, recipe, 1.0)
    peer.copy_weights(model)
    tiles = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = network.build_torch_run(peer, tiles)()
    with torch.no_grad():
        torch.testing.assert_close(network.ConvertiblePeer(peer.model).eval()(tiles)[:, 0], expected)
