"""The benchmark of speed: what it measures is the same network, and its numbers add up."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

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
