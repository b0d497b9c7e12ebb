"""Which engine a recipe gets, what it must prove first, and how loudly it falls back."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from inspector.config import Recipe
from inspector.detection.tiling import TileGrid, Tiler
from inspector.engine import build, build_cuda, openvino
from inspector.engine.base import Precision, has_bf16
from inspector.engine.build import build_eager, build_engine
from inspector.engine.cuda import Kernels
from inspector.engine.eager import EagerEngine
from inspector.engine.graphs import compute_network_key, write_quantised
from inspector.engine.layer_choice import Budget, Memory
from inspector.engine.openvino import OpenVinoEngine
from inspector.engine.probe import MAX_SHIFT, Probe, dump_probe, score_tiles
from inspector.errors import DeviceFaultError, DeviceOutOfMemoryError, KernelsError, RecipeError
from inspector.model import ReverseDistillation
from inspector.types import Fallback

CPU = torch.device("cpu")
MODULE = "inspector.engine.openvino"

RecipeOf = Callable[..., Recipe]

needs_bf16 = pytest.mark.skipif(not has_bf16(), reason="this CPU has no bfloat16")
needs_nncf = pytest.mark.skipif(
    importlib.util.find_spec("nncf") is None, reason="NNCF is not installed: install the int8 extra"
)


@pytest.fixture(autouse=True)
def _convert_once(monkeypatch: pytest.MonkeyPatch, graphs: Any, float_graphs: Any) -> None:
    """Converting takes seconds; graphs of this model are at hand."""
    by_dtype = {torch.uint8: graphs, torch.float32: float_graphs}
    monkeypatch.setattr(openvino, "convert", lambda distances, maps, *, side, dtype: dict(by_dtype[dtype]))
    for settings, name in ((torch.backends.cudnn, "benchmark"), (torch.backends.cudnn, "allow_tf32")):
        monkeypatch.setattr(settings, name, getattr(settings, name))  # put back at the end


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The recipe's."""
    (tmp_path / "recipe").mkdir()
    return tmp_path / "recipe"


@pytest.fixture
def add_probe(folder: Path, make_tiles: Callable[..., Tensor], make_eager: Callable[..., EagerEngine]) -> Any:
    """Put a probe into the folder, its scores `gain` times too high; what the recipe then says of it."""

    def add(gain: float = 1.0, drift: float = 1.0) -> dict[str, Any]:
        tiles = make_tiles(6, seed=30)
        scores = score_tiles(make_eager(), tiles)
        content = dump_probe(Probe(tiles, scores * gain, scores * drift))
        (folder / "probe.safetensors").write_bytes(content)
        return {"probe": "probe.safetensors", "probe_sha256": hashlib.sha256(content).hexdigest()}

    return add


@pytest.fixture
def loads() -> list[str]:
    """One entry for each time the model was loaded."""
    return []


@pytest.fixture
def load(model: ReverseDistillation, loads: list[str]) -> Callable[[], ReverseDistillation]:
    def load_model() -> ReverseDistillation:
        loads.append("model")
        return model

    return load_model


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Callable[[Precision], None]:
    """Say which precision the device is fastest in."""
    return lambda precision: monkeypatch.setattr(build, "choose_precision", lambda device: precision)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@needs_bf16
def test_auto_is_bf16_when_the_probe_proves_it(
    caplog: pytest.LogCaptureFixture, recipe_of: RecipeOf, load: Any, folder: Path, add_probe: Any, choose: Any
) -> None:
    choose(Precision.BF16)
    recipe = recipe_of(**add_probe())
    with caplog.at_level(logging.INFO):
        engine = build_engine(recipe, load, device=CPU, folder=folder, batch=2)
    assert isinstance(engine, OpenVinoEngine)
    assert (engine.precision, len(engine.tiles)) == ("bf16", 2)
    assert warnings_of(caplog) == []
    assert "recipe tiny: bf16, OpenVINO" in caplog.text
    assert "scores changed by 0." in caplog.text


def test_auto_is_fp32_with_a_warning_when_there_is_no_probe(
    caplog: pytest.LogCaptureFixture, recipe_of: RecipeOf, load: Any, folder: Path, choose: Any
) -> None:
    choose(Precision.BF16)
    engine = build_engine(recipe_of(), load, device=CPU, folder=folder)
    assert engine.precision == "fp32"
    (warning,) = warnings_of(caplog)
    assert "recipe tiny has no probe to check bf16 with, so it runs in fp32, which is slower" in warning
    assert engine.fallback is Fallback.NO_PROBE


def test_auto_is_fp32_without_a_warning_when_the_device_has_nothing_faster(
    caplog: pytest.LogCaptureFixture, recipe_of: RecipeOf, load: Any, folder: Path, choose: Any
) -> None:
    choose(Precision.FP32)
    assert build_engine(recipe_of(), load, device=CPU, folder=folder).precision == "fp32"
    assert warnings_of(caplog) == []


@pytest.mark.parametrize(("calibrated_in", "warns"), [("bf16", True), ("fp32", False), (None, False)])
def test_warning_names_both_when_the_threshold_was_set_in_another_precision(
    caplog: pytest.LogCaptureFixture, recipe_of: RecipeOf, load: Any, folder: Path, calibrated_in: Any, warns: bool
) -> None:
    recipe = recipe_of(precision="fp32", calibrated_in=calibrated_in)
    build_engine(recipe, load, device=CPU, folder=folder)
    assert [("set in bf16 and it runs in fp32" in warning) for warning in warnings_of(caplog)] == [True] * warns


@needs_bf16
def test_auto_is_fp32_with_a_warning_when_bf16_moves_scores_too_far(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    recipe_of: RecipeOf,
    load: Any,
    folder: Path,
    add_probe: Any,
    choose: Any,
) -> None:
    choose(Precision.BF16)
    monkeypatch.setitem(MAX_SHIFT, Precision.BF16, 0.0)
    engine = build_engine(recipe_of(**add_probe()), load, device=CPU, folder=folder)
    assert isinstance(engine, OpenVinoEngine)
    assert engine.precision == "fp32"
    (warning,) = warnings_of(caplog)
    assert "precision: bf16 on OpenVINO" in warning
    assert "it runs in fp32 instead, which is slower" in warning
    assert engine.fallback is Fallback.PRECISION_REFUSED


@needs_bf16
def test_recipe_is_refused_with_shift_and_limit_when_its_precision_moves_scores_too_far(
    recipe_of: RecipeOf, load: Any, folder: Path, add_probe: Any
) -> None:
    recipe = recipe_of(precision="bf16", **add_probe(gain=1.1))  # 1 − 1/1.1 = 9.1 %
    with pytest.raises(
        RecipeError,
        match=r"precision: bf16 on .* by (8\.|9\.)\d+% of the highest score compared with float32, must be at most 3",
    ):
        build_engine(recipe, load, device=CPU, folder=folder)


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_recipe_is_refused_when_even_fp32_moves_scores_too_far(
    recipe_of: RecipeOf, load: Any, folder: Path, add_probe: Any, choose: Any, precision: str
) -> None:
    choose(Precision.FP32)
    recipe = recipe_of(precision=precision, **add_probe(gain=1.002))
    with pytest.raises(
        RecipeError,
        match=r"precision: fp32 on .* by 0\.20% of the highest score compared with float32, must be at most",
    ):
        build_engine(recipe, load, device=CPU, folder=folder)


@needs_bf16
def test_recipe_is_refused_when_its_precision_cannot_be_proved(recipe_of: RecipeOf, load: Any, folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"precision: bf16 .*inspector calibrate"):
        build_engine(recipe_of(precision="bf16"), load, device=CPU, folder=folder)


@pytest.mark.parametrize(("calibrated_in", "is_refused"), [("fp32", True), ("bf16", False), (None, False)])
def test_recipe_is_refused_when_scores_are_not_those_its_threshold_was_set_with(
    recipe_of: RecipeOf, load: Any, folder: Path, add_probe: Any, calibrated_in: Any, is_refused: bool
) -> None:
    recipe = recipe_of(precision="fp32", calibrated_in=calibrated_in, **add_probe(drift=1.01))
    if not is_refused:
        build_engine(recipe, load, device=CPU, folder=folder)
        return
    with pytest.raises(RecipeError, match=r"with the engine that its threshold was set with, must be at most 0\.1%"):
        build_engine(recipe, load, device=CPU, folder=folder)


def test_recipe_is_refused_when_its_probe_is_of_other_tiles(
    recipe_of: RecipeOf, load: Any, folder: Path, add_probe: Any, float_graphs: Any
) -> None:
    recipe = recipe_of(precision="fp32", preprocessing={"pixel_format": "Mono16"}, **add_probe())
    with pytest.raises(RecipeError, match=r"probe: must have tiles \(3, 64, 64\) torch.float32, got .* torch.uint8"):
        build_engine(recipe, load, device=CPU, folder=folder)


def test_recipe_without_a_probe_is_refused_when_the_engine_is_wrong(
    monkeypatch: pytest.MonkeyPatch, recipe_of: RecipeOf, load: Any, folder: Path
) -> None:
    infer = OpenVinoEngine.infer
    monkeypatch.setattr(OpenVinoEngine, "infer", lambda engine, count: infer(engine, count) * 1.01)
    with pytest.raises(RecipeError, match=r"fp32 on OpenVINO .* by 1\.0\d% of the highest score compared with float32"):
        build_engine(recipe_of(precision="fp32"), load, device=CPU, folder=folder)


@needs_nncf
def test_int8_is_refused_when_it_was_made_for_other_parameters(
    recipe_of: RecipeOf, model: ReverseDistillation, load: Any, folder: Path, add_probe: Any, make_tiles: Any
) -> None:
    recipe = quantise(recipe_of, model, folder, add_probe, make_tiles)
    edited = recipe.model_copy(update={"sigma": 3.0})
    with pytest.raises(RecipeError, match="was made for other weights or parameters"):
        build_engine(edited, load, device=CPU, folder=folder)


def test_asked_for_precision_is_refused_when_openvino_fails(
    monkeypatch: pytest.MonkeyPatch, recipe_of: RecipeOf, load: Any, folder: Path, add_probe: Any
) -> None:
    hide_openvino(monkeypatch)
    with pytest.raises(RecipeError, match="precision: bf16 cannot run"):
        build_engine(recipe_of(precision="bf16", **add_probe()), load, device=CPU, folder=folder)


def test_device_fault_is_raised_when_the_gpu_engine_cannot_be_built(
    monkeypatch: pytest.MonkeyPatch, recipe_of: RecipeOf, load: Any
) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise RuntimeError("CUDA error: no kernel image")

    monkeypatch.setattr(build_cuda, "CudaEngine", fail)
    with pytest.raises(DeviceFaultError, match="device cuda:0: CUDA error: no kernel image"):
        build_engine(recipe_of(precision="fp32"), load, device=torch.device("cuda", 0))


def test_lack_of_memory_is_no_device_fault_when_the_gpu_engine_cannot_be_built(
    monkeypatch: pytest.MonkeyPatch, recipe_of: RecipeOf, load: Any
) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(build_cuda, "CudaEngine", fail)
    with pytest.raises(DeviceOutOfMemoryError, match="device cuda:0: recipe tiny has no room: CUDA out of memory"):
        build_engine(recipe_of(precision="fp32"), load, device=torch.device("cuda", 0))


def test_recipe_is_refused_when_its_probe_is_altered(
    recipe_of: RecipeOf, load: Any, folder: Path, add_probe: Any, loads: list[str]
) -> None:
    recipe = recipe_of(**(add_probe() | {"probe_sha256": "1" * 64}))
    with pytest.raises(RecipeError, match="altered"):
        build_engine(recipe, load, device=CPU, folder=folder)
    assert loads == []


def test_eager_runs_with_a_warning_when_openvino_is_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, recipe_of: RecipeOf, load: Any, folder: Path
) -> None:
    hide_openvino(monkeypatch)
    engine = build_engine(recipe_of(precision="fp32"), load, device=CPU, folder=folder, batch=3)
    assert isinstance(engine, EagerEngine)
    assert (engine.precision, len(engine.tiles)) == ("fp32", 3)
    (warning,) = warnings_of(caplog)
    assert "OpenVINO cannot run this recipe: it runs in eager mode in fp32, several times slower" in warning
    assert engine.fallback is Fallback.EAGER


def test_eager_runs_with_a_warning_when_openvino_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, recipe_of: RecipeOf, load: Any
) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise RuntimeError("no such operation")

    monkeypatch.setattr(openvino, "OpenVinoEngine", fail)
    assert isinstance(build_engine(recipe_of(precision="fp32"), load, device=CPU), EagerEngine)
    (warning,) = warnings_of(caplog)
    assert "no such operation" in warning


def hide_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("inspector.engine.openvino")
    monkeypatch.setitem(sys.modules, MODULE, None)


def test_int8_is_refused_when_openvino_is_missing(
    monkeypatch: pytest.MonkeyPatch, recipe_of: RecipeOf, load: Any, folder: Path
) -> None:
    hide_openvino(monkeypatch)
    with pytest.raises(RecipeError, match="precision: int8 cannot run"):
        build_engine(recipe_of(precision="int8"), load, device=CPU, folder=folder)


def test_fp16_is_refused_when_on_the_cpu(recipe_of: RecipeOf, load: Any, loads: list[str]) -> None:
    with pytest.raises(RecipeError, match="recipe tiny: precision: fp16 runs on CUDA, got cpu"):
        build_engine(recipe_of(precision="fp16"), load, device=CPU)
    assert loads == []


def test_int8_is_refused_when_on_a_gpu(recipe_of: RecipeOf, load: Any, loads: list[str]) -> None:
    with pytest.raises(RecipeError, match="recipe tiny: precision: int8 runs on the CPU, got cuda:1"):
        build_engine(recipe_of(precision="int8"), load, device=torch.device("cuda", 1))
    assert loads == []


def test_int8_is_refused_when_the_recipe_has_no_quantised_network(recipe_of: RecipeOf, load: Any, folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"required with precision int8; run inspector calibrate --precision int8"):
        build_engine(recipe_of(precision="int8"), load, device=CPU, folder=folder)


@pytest.mark.parametrize("pixel_format", ["RGB8", "Mono16"])
def test_model_is_not_loaded_when_it_is_in_the_cache(
    recipe_of: RecipeOf, load: Any, loads: list[str], tmp_path: Path, pixel_format: str, make_tiles: Any, infer: Any
) -> None:
    recipe = recipe_of(precision="fp32", preprocessing={"pixel_format": pixel_format})
    engines = [build_engine(recipe, load, device=CPU, cache=tmp_path, proved=False) for _ in range(3)]
    assert loads == ["model"]
    assert engines[0].tiles.dtype == (torch.float32 if pixel_format == "Mono16" else torch.uint8)
    tiles = make_tiles(2, dtype=engines[0].tiles.dtype)
    maps = [infer(engine, tiles) for engine in engines]
    torch.testing.assert_close(maps[2], maps[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"weights_sha256": "1" * 64},
        {"preprocessing": {"normalisation": {"mean": (0.5, 0.5, 0.5)}}},
        {"preprocessing": {"pixel_format": "Mono16"}},
        {"sigma": 3.0},
        {"map_normalisation": "position"},
        {"anomaly_map_mode": "multiply"},
        {"bottleneck_width": "anomalib"},
        {"student": "light"},
        {"tiling": {"tile_size": 128, "stride": 64}},
    ],
)
def test_cache_is_not_used_when_the_network_is_another(
    monkeypatch: pytest.MonkeyPatch, recipe_of: RecipeOf, load: Any, loads: list[str], tmp_path: Path, change: Any
) -> None:
    monkeypatch.setattr(openvino, "OpenVinoEngine", StubEngine)
    recipe = recipe_of(precision="fp32")
    for one in (recipe, recipe_of(precision="fp32", recipe_id="renamed", min_region_area=9)):
        build_engine(one, load, device=CPU, cache=tmp_path, proved=False)
    assert loads == ["model"]  # a name, a threshold, a region rule are not in the network
    build_engine(recipe_of(precision="fp32", **change), load, device=CPU, cache=tmp_path, proved=False)
    assert loads == ["model", "model"]


class StubEngine:
    """As much of an engine as is written to the log."""

    name = "stub"
    fallback = Fallback.NONE

    def __init__(self, graphs: Any, precision: Precision, **options: Any) -> None:
        self.precision = precision


@needs_nncf
def test_recipe_runs_in_int8_when_it_was_quantised(
    recipe_of: RecipeOf,
    model: ReverseDistillation,
    load: Any,
    loads: list[str],
    folder: Path,
    add_probe: Any,
    make_tiles: Any,
    infer: Any,
    reference: Any,
) -> None:
    recipe = quantise(recipe_of, model, folder, add_probe, make_tiles)
    assert sorted(recipe.quantised_sha256) == ["distances.bin", "distances.xml", "map.bin", "map.xml"]
    engine = build_engine(recipe, load, device=CPU, folder=folder)
    assert (type(engine), engine.precision) == (OpenVinoEngine, "int8")
    assert loads == []
    tiles = make_tiles(2)
    maps, expected = infer(engine, tiles), reference(tiles)
    assert 1e-3 < float((maps - expected).abs().max() / (expected.max() - expected.min())) < 0.25

    path = next(path for path in folder.rglob("distances.bin"))
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"distances.bin: altered"):
        build_engine(recipe, load, device=CPU, folder=folder)
    path.unlink()
    with pytest.raises(RecipeError, match=r"distances.bin: cannot be read"):
        build_engine(recipe, load, device=CPU, folder=folder)


def test_network_has_the_key_that_earlier_int8_networks_are_named_by_unless_its_student_is_light(
    recipe_of: RecipeOf,
) -> None:
    assert compute_network_key(recipe_of()) == "aabbfd57f63d"
    assert compute_network_key(recipe_of(student="light")) != compute_network_key(recipe_of())


def quantise(recipe_of: RecipeOf, model: nn.Module, folder: Path, add_probe: Any, make_tiles: Any) -> Recipe:
    plain = recipe_of()
    name = f"int8-{compute_network_key(plain)}-1"
    (folder / name).mkdir()
    sums = write_quantised(plain, model, make_tiles(8, seed=20), folder / name)
    return recipe_of(precision="int8", quantised=name, quantised_sha256=sums, **add_probe())


def test_quantising_is_refused_when_nncf_is_missing(
    monkeypatch: pytest.MonkeyPatch, recipe_of: RecipeOf, model: ReverseDistillation, folder: Path, make_tiles: Any
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(RecipeError, match=r"--precision int8: needs NNCF: pip install 'inspector\[int8\]'"):
        write_quantised(recipe_of(), model, make_tiles(2), folder)
    assert list(folder.iterdir()) == []


def test_gpu_runs_the_cuda_engine_when_chosen(
    monkeypatch: pytest.MonkeyPatch, recipe_of: RecipeOf, load: Any, tmp_path: Path, choose: Any
) -> None:
    made: dict[str, Any] = {}

    class Engine(StubEngine):
        def __init__(self, model: Any, mean: Any, std: Any, precision: Precision, **options: Any) -> None:
            super().__init__(model, precision)
            made.update(options, mean=mean, std=std)

    monkeypatch.setattr(build_cuda, "CudaEngine", Engine)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # so that it is put back as it was
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    choose(Precision.BF16)
    torn = tmp_path / "inductor" / "kernel"
    torn.parent.mkdir()
    torn.touch()
    device = torch.device("cuda", 1)
    engine = build_engine(recipe_of(precision="fp32"), load, device=device, cache=tmp_path, proved=False)
    assert engine.precision == "fp32"
    assert (made["mean"], made["std"]) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (made["side"], made["dtype"], made["device"], made["batch"]) == (64, torch.uint8, device, 32)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "inductor")
    assert not torn.exists()
    assert (tmp_path / "inductor-sha256.json").is_file()


@pytest.mark.parametrize(
    ("first", "room_for", "tried"),
    [(None, 16, [32, 16]), (None, 8, [32, 16, 8]), (None, 0, [32, 16, 8]), (12, 0, [12]), (4, 0, [4])],
)
def test_smaller_batches_are_tried_when_a_gpu_has_little_memory(
    monkeypatch: pytest.MonkeyPatch,
    recipe_of: RecipeOf,
    load: Any,
    first: int | None,
    room_for: int,
    tried: list[int],
) -> None:
    batches = []

    class Engine(StubEngine):
        def __init__(
            self, model: Any, mean: Any, std: Any, precision: Precision, *, batch: int, **options: Any
        ) -> None:
            super().__init__(model, precision)
            batches.append(batch)
            if batch > room_for:
                raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(build_cuda, "CudaEngine", Engine)
    room = pytest.raises(DeviceOutOfMemoryError) if room_for == 0 else contextlib.nullcontext()
    with room:
        build_engine(recipe_of(precision="fp32"), load, device=torch.device("cuda"), batch=first, proved=False)
    assert batches == tried


class KernelsEngine(StubEngine):
    """A CUDA engine whose kernels of some kinds cannot be had, move scores, or end the device."""

    absent: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    deadly: tuple[str, ...] = ()

    def __init__(
        self, model: Any, mean: Any, std: Any, precision: Precision, *, kernels: str, batch: int, **options: Any
    ) -> None:
        super().__init__(model, precision)
        self.name = kernels
        self.tiles = torch.zeros(batch, 3, 64, 64, dtype=torch.uint8)
        if kernels in self.deadly:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if kernels in self.absent:
            raise KernelsError("no such kernels")

    def infer(self, count: int) -> Tensor:
        return torch.full((count, 64, 64), torch.nan if self.name in self.wrong else 1.0)


@pytest.fixture
def build_on_gpu(monkeypatch: pytest.MonkeyPatch, recipe_of: RecipeOf, load: Any, folder: Path) -> Any:
    """Build an engine on a GPU whose kernels are of `KernelsEngine`."""
    tiles = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    content = dump_probe(Probe(tiles, torch.ones(2), torch.ones(2)))
    (folder / "probe.safetensors").write_bytes(content)
    probe = {"probe": "probe.safetensors", "probe_sha256": hashlib.sha256(content).hexdigest()}
    monkeypatch.setattr(build_cuda, "CudaEngine", KernelsEngine)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")

    def build(*, absent: Any = (), wrong: Any = (), deadly: Any = (), cache: Path | None = None) -> Any:
        for name, value in {"absent": absent, "wrong": wrong, "deadly": deadly}.items():
            monkeypatch.setattr(KernelsEngine, name, value)
        recipe = recipe_of(precision="fp32", **probe)
        return build_engine(recipe, load, device=torch.device("cuda"), folder=folder, cache=cache)

    return build


@pytest.mark.parametrize(
    ("absent", "wrong", "name", "fallback"),
    [
        ((), (), "fused", Fallback.NONE),
        (("fused",), (), "compiled", Fallback.NOT_FUSED),
        ((), ("fused",), "compiled", Fallback.NOT_FUSED),
        ((), ("fused", "compiled"), "own", Fallback.NOT_COMPILED),
    ],
)
def test_next_kernels_run_with_a_warning_when_the_first_are_absent_or_wrong(
    build_on_gpu: Any, caplog: pytest.LogCaptureFixture, absent: Any, wrong: Any, name: str, fallback: Fallback
) -> None:
    engine = build_on_gpu(absent=absent, wrong=wrong)
    assert (engine.name, engine.fallback) == (name, fallback)
    warned = [warning for warning in warnings_of(caplog) if "kernels are not used" in warning]
    assert len(warned) == len(absent + wrong)


def test_recipe_is_refused_when_all_kernels_move_its_scores(build_on_gpu: Any, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="precision: fp32 on own changes the scores"):
        build_on_gpu(wrong=("fused", "compiled", "own"), cache=tmp_path)
    assert not (tmp_path / "fused-attempts").exists()


def test_fused_kernels_are_left_out_once_when_two_starts_in_a_row_ended_at_them(
    build_on_gpu: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with pytest.raises(DeviceFaultError, match="illegal memory access"):
            build_on_gpu(deadly=("fused",), cache=tmp_path)
    engine = build_on_gpu(deadly=("fused",), cache=tmp_path)
    assert (engine.name, engine.fallback) == ("compiled", Fallback.NOT_FUSED)
    assert "fused kernels are left out: 2 starts in a row ended while they were tried" in caplog.text
    assert build_on_gpu(cache=tmp_path).name == "fused"  # a new driver may have come
    assert not (tmp_path / "fused-attempts").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), OSError("no space left")])
def test_attempt_does_not_count_when_it_ends_in_an_orderly_way(
    build_on_gpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: BaseException
) -> None:
    def end(*arguments: Any) -> Any:
        assert (tmp_path / "fused-attempts").read_bytes() == b"1"  # as a crash would leave it
        raise error

    monkeypatch.setattr(build_cuda, "_try_batches", end)
    with pytest.raises(type(error)):
        build_on_gpu(cache=tmp_path)
    assert not (tmp_path / "fused-attempts").exists()


@pytest.mark.parametrize(("seconds", "counts"), [(100.0, False), (1000.0, True)])
def test_attempt_that_is_stopped_counts_when_it_may_hang_and_not_before(
    build_on_gpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seconds: float, counts: bool
) -> None:
    now_s = time.monotonic()

    def stop(*arguments: Any) -> Any:
        monkeypatch.setattr(build_cuda.time, "monotonic", lambda: now_s + seconds)
        build_cuda.forgive_attempts()
        monkeypatch.undo()
        assert (tmp_path / "fused-attempts").exists() is counts
        raise KeyboardInterrupt

    monkeypatch.setattr(build_cuda, "_try_batches", stop)
    with pytest.raises(KeyboardInterrupt):
        build_on_gpu(cache=tmp_path)
    assert not build_cuda._under_way


def test_precision_is_said_to_be_refused_rather_than_kernels_when_both_are(
    build_on_gpu: Any, recipe_of: RecipeOf, load: Any, choose: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(Precision.BF16)
    monkeypatch.setattr(KernelsEngine, "absent", ("fused",))
    engine = build_engine(recipe_of(), load, device=torch.device("cuda"), proved=False)
    assert engine.fallback is Fallback.NOT_FUSED
    monkeypatch.setattr(build, "_prove", lambda engine, probe, order: engine)
    engine = build_engine(recipe_of(), load, device=torch.device("cuda"))
    assert (engine.precision, engine.fallback) == ("fp32", Fallback.NO_PROBE)


class TileBench:
    """A GPU on which a tile takes least in batches of 48."""

    def __init__(self, device: torch.device) -> None:
        pass

    def time(self, step: Callable[[], Any]) -> float:
        batch = len(step()[0][0])
        return batch * (0.5 if batch == 48 else 1.0)

    def poison(self, like: Tensor) -> None:
        pass


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Memory:
    """What a GPU as `TileBench` remembers."""
    memory = Memory(tmp_path / "layers.json")
    monkeypatch.setattr(build_cuda, "CudaBench", TileBench)
    monkeypatch.setattr(build_cuda, "open_memory", lambda cache, device: memory)
    monkeypatch.setattr(build_cuda, "choose_forms", lambda *args: {})
    return memory


def test_batch_is_timed_and_remembered_when_none_is_given(
    memory: Memory, recipe_of: RecipeOf, model: ReverseDistillation, tmp_path: Path
) -> None:
    order = build_cuda.CudaOrder(recipe_of(), model, Precision.FP32, CPU, None, tmp_path, lambda engine: engine)
    assert build_cuda._tune_batch(order) == 48
    known = json.loads((tmp_path / "layers.json").read_bytes())
    assert known["batch of resnet18 official 64 fp32 None"] == "48"
    assert known["batch of resnet18 official 64 fp32 None: seconds of 8"] == "8.0"


def test_batch_is_timed_in_the_settings_that_engines_run_in(
    memory: Memory,
    monkeypatch: pytest.MonkeyPatch,
    recipe_of: RecipeOf,
    model: ReverseDistillation,
    tmp_path: Path,
) -> None:
    seen = set()

    def note(bench: TileBench, step: Callable[[], Any]) -> float:
        backends = torch.backends
        seen.add((backends.cudnn.benchmark, backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32))
        return 1.0

    monkeypatch.setattr(TileBench, "time", note)
    monkeypatch.setattr(build_cuda, "CudaEngine", KernelsEngine)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = False, True
    order = build_cuda.CudaOrder(recipe_of(), model, Precision.FP32, CPU, None, tmp_path, lambda engine: engine)
    build_cuda.build_cuda_engine(order)
    assert seen == {(True, False, False)}


@pytest.mark.parametrize(
    ("absent", "batch", "chosen"),
    [((), None, 48), (("fused",), None, 32), (("fused", "compiled"), None, 32), (("fused",), 12, 12)],
)
def test_batch_that_was_timed_is_of_fused_kernels_alone(
    memory: Memory,
    monkeypatch: pytest.MonkeyPatch,
    recipe_of: RecipeOf,
    model: ReverseDistillation,
    absent: tuple[str, ...],
    batch: int | None,
    chosen: int,
) -> None:
    memory.put("batch of resnet18 official 64 fp32 None", "48")
    monkeypatch.setattr(build_cuda, "CudaEngine", KernelsEngine)
    monkeypatch.setattr(KernelsEngine, "absent", absent)
    order = build_cuda.CudaOrder(recipe_of(), model, Precision.FP32, CPU, batch, Path(), lambda engine: engine)
    assert len(build_cuda._try_batches(order, list(Kernels)).tiles) == chosen


@pytest.mark.parametrize(("remembered", "batch"), [(None, 32), ("64", 64)])
def test_nothing_is_timed_beside_what_judges(
    memory: Memory,
    monkeypatch: pytest.MonkeyPatch,
    recipe_of: RecipeOf,
    load: Any,
    tmp_path: Path,
    remembered: str | None,
    batch: int,
) -> None:
    budgets: list[Budget] = []

    class Engine(KernelsEngine):
        def __init__(self, *arguments: Any, budget: Budget, **options: Any) -> None:
            budgets.append(budget)
            super().__init__(*arguments, **options)

    def refuse(bench: TileBench, step: Callable[[], Any]) -> float:
        raise AssertionError("must not be timed")

    monkeypatch.setattr(TileBench, "time", refuse)
    monkeypatch.setattr(build_cuda, "CudaEngine", Engine)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    if remembered:
        memory.put("batch of resnet18 official 64 fp32 None", remembered)
    recipe, device = recipe_of(precision="fp32"), torch.device("cuda")
    engine = build_engine(recipe, load, device=device, cache=tmp_path, proved=False, timed=False)
    assert len(engine.tiles) == batch
    assert [budget.is_spent() for budget in budgets] == [True]
    build_engine(recipe, load, device=device, cache=tmp_path, batch=8, proved=False)
    assert not budgets[-1].is_spent()


@pytest.mark.parametrize("error", [RuntimeError("no such operation"), fx.proxy.TraceError("no such operation")])
def test_batch_is_as_before_with_a_warning_when_it_cannot_be_timed(
    build_on_gpu: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    error: Exception,
) -> None:
    def fail(device: torch.device) -> Any:
        raise error

    monkeypatch.setattr(build_cuda, "CudaBench", fail)
    assert len(build_on_gpu().tiles) == 32
    assert caplog.text == ""  # without a cache nothing is timed
    assert len(build_on_gpu(cache=tmp_path).tiles) == 32
    assert "the batch is 32, and was not timed: no such operation" in caplog.text


def test_fault_of_the_device_is_told_when_memory_cannot_be_given_back(
    build_on_gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "empty_cache", fail)
    with pytest.raises(DeviceFaultError, match="illegal memory access"):
        build_on_gpu()


@pytest.mark.parametrize("frame_hw", [(64, 64), (65, 64), (100, 150), (300, 40), (2048, 2448)])
def test_tiles_of_a_frame_are_counted_as_they_are_cut(recipe_of: RecipeOf, frame_hw: tuple[int, int]) -> None:
    recipe = recipe_of(tiling={"tile_size": 64, "stride": 48}, preprocessing={"frame_hw": frame_hw})
    assert build_cuda.count_tiles(recipe) == len(TileGrid(Tiler(64, 48), frame_hw))
    assert build_cuda.count_tiles(recipe_of()) is None


def test_reference_follows_the_recipe_when_built(recipe_of: RecipeOf, model: ReverseDistillation) -> None:
    engine = build_eager(recipe_of(preprocessing={"pixel_format": "Mono16"}), model, batch=3)
    assert (engine.device.type, engine.precision) == ("cpu", "fp32")
    assert (tuple(engine.tiles.shape), engine.tiles.dtype) == ((3, 3, 64, 64), torch.float32)
