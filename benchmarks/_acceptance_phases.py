"""The phases of `gpu_acceptance.py`: what each runs, on a GPU or, dry, on a simulated device."""

from __future__ import annotations

import copy
import gc
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from _acceptance_line import check_verdicts, make_pair, run_line
from _acceptance_peer import EagerPeer
from _methods import Case, Pixels, build_recipe, build_unproved, make_frames, tf32_set
from torch import Tensor

from inspector.config import Recipe, Threshold
from inspector.detection.detector import Detector
from inspector.detection.run import FrameRun, Judgement
from inspector.device import read_driver
from inspector.engine.base import Engine, Precision
from inspector.engine.cache import find_user_cache
from inspector.engine.cuda import CudaEngine, Kernels
from inspector.engine.fusion import REFERENCE, Form, fuse, get_layers
from inspector.engine.layer_choice import Memory, choose_batch, choose_forms
from inspector.engine.network import DistanceNetwork
from inspector.errors import KernelsError
from inspector.testing.simulated_device import SimulatedDevice, SimulatedEngine, summarise_latency
from inspector.types import PixelFormat, Verdict

Figure = dict[str, Any]

_TILE_S = 0.037 / 4
"""Of the simulated device, so that a frame of four tiles takes 37 ms."""

_PRECISIONS = (Precision.FP32, Precision.BF16, Precision.FP16)


@dataclass(frozen=True, slots=True)
class Setting:
    """What is run: on a GPU the sizes that count, dry the smallest that exercise the logic."""

    dry: bool
    frame_hw: tuple[int, int]
    tile: int
    batches: tuple[int, ...]
    frames: int
    small_frames: int
    line_s: int

    @property
    def device(self) -> torch.device:
        """Where tensors are."""
        return torch.device("cpu" if self.dry else "cuda")


@dataclass(frozen=True, slots=True)
class Phase:
    """`run` gives its figures, within `limit_s`."""

    run: Callable[[Setting], list[Figure]]
    limit_s: float


def choose_setting(*, dry: bool) -> Setting:
    """For a GPU, or for a dry run."""
    if dry:
        return Setting(True, (128, 128), 64, (2, 4), 8, 50, 8)
    return Setting(False, (3000, 4096), 256, (16, 32, 64, 96), 60, 2000, 60)


def find_gpu() -> str | None:
    """The GPU's name; None: none that CUDA can use."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def figure(name: str, value: object, must: str = "") -> Figure:
    """One figure, and what it must be."""
    return {"name": name, "value": value, "must": must, "of": find_gpu() or "CPU"}


class Bench:
    """One engine, its detector and its clock: a GPU's, or those of a simulated device."""

    def __init__(
        self,
        setting: Setting,
        *,
        backbone: str = "resnet18",
        batch: int | None = None,
        precision: Precision = Precision.BF16,
        threshold: float = 1e6,
        kernels: Kernels | None = None,
    ) -> None:
        """`kernels`: those and no others; None: the first that can be had, as in the daemon."""
        batch = batch or setting.batches[1]
        self.setting = setting
        self.simulated = SimulatedDevice()
        case = Case(backbone=backbone, frame_hw=setting.frame_hw, tile=setting.tile, stride=setting.tile)
        recipe, self.model = build_recipe(case)
        self.recipe = recipe.model_copy(update={"threshold": Threshold(value=threshold, method="manual")})
        self.engine = self._build(batch, precision, kernels)
        downloads = self.simulated if setting.dry else None
        self.detector = Detector(self.recipe, self.engine, downloads=downloads)
        self.detector.warm_up()

    def _build(self, batch: int, precision: Precision, kernels: Kernels | None) -> Engine:
        setting, recipe = self.setting, self.recipe
        if setting.dry:
            return SimulatedEngine(self.simulated, batch=batch, side=setting.tile, batch_s=_TILE_S * batch)
        if kernels is None:
            return build_unproved(recipe, self.model, precision, setting.device, batch)
        return CudaEngine(
            self.model, *_normalisation(recipe), precision,
            side=setting.tile, dtype=torch.uint8, device=setting.device, batch=batch, kernels=kernels,
            cache=find_user_cache(),
        )  # fmt: skip

    def tell(self, name: str = "") -> Figure:
        """What runs, and what this machine would allow and does not run: `name` says where there are several."""
        engine = self.engine
        return figure(f"{name}engine", f"{engine.name}, {len(engine.tiles)} tiles at once, fallback {engine.fallback}")

    def now_s(self) -> float:
        """Once all that is queued has run."""
        if self.setting.dry:
            clock = self.simulated.clock
            clock.wait_until(self.simulated.compute.run(0.0))
            return clock.now_s
        torch.cuda.synchronize()
        return time.perf_counter()

    def judge_pipelined(self, frames: list[Pixels]) -> list[Judgement]:
        """Frames as the worker judges them: as many under way as the engine can use."""
        runs: list[FrameRun] = []
        judgements = []
        for pixels in frames:
            if len(runs) == self.engine.frames_in_flight:
                judgements.append(self.detector.finish(runs.pop(0)))
            run = self.detector.begin(pixels, PixelFormat.RGB8)
            while not run.is_done:
                self.detector.advance([run])
            runs.append(run)
        return judgements + [self.detector.finish(run) for run in runs]


def measure_machine(setting: Setting) -> list[Figure]:
    """Versions, and what products and copies reach at most."""
    driver = read_driver()
    figures = [
        figure("torch", torch.__version__),
        figure("CUDA of torch", torch.version.cuda),
        figure("driver", driver.version if driver else None),
        figure("cuDNN", torch.backends.cudnn.version() if not setting.dry else None),
    ]
    side = 256 if setting.dry else 8192
    for dtype in (torch.float32, torch.bfloat16):
        left, right = (torch.randn(side, side, device=setting.device).to(dtype) for _ in range(2))
        with tf32_set(matmul=True, convolutions=True):
            seconds = min(_time(setting, lambda left=left, right=right: left @ right) for _ in range(5))
        figures.append(figure(f"matmul {dtype}, TFLOP/s", 2 * side**3 / seconds / 1e12))
    host = torch.empty(side * side, pin_memory=not setting.dry)
    seconds = min(_time(setting, lambda: host.to(setting.device, copy=True, non_blocking=True)) for _ in range(5))
    return [*figures, figure("upload, GB/s", host.nbytes / seconds / 1e9)]


def _time(setting: Setting, step: Callable[[], object]) -> float:
    started = time.perf_counter()
    step()
    if not setting.dry:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def check_exactness(setting: Setting) -> list[Figure]:
    """Each precision and kind of kernels against float64 on the CPU: whole and partial batches, poisoned outputs."""
    figures = []
    for precision, kernels in itertools.product(_PRECISIONS, Kernels):
        try:
            bench = Bench(setting, precision=precision, batch=setting.batches[0], kernels=kernels)
        except KernelsError as error:
            figures.append(_tell_absent(f"{precision}, {kernels} kernels", error))
            continue
        figures.append(bench.tell(f"{precision}, {kernels} kernels: "))
        tiles = torch.randint(0, 256, bench.engine.tiles.shape, dtype=torch.uint8)
        expected = _compute_float64(bench, tiles)
        for count in (len(tiles), 1):
            shift = _compare(_infer(bench.engine, tiles, count), expected[:count])
            limit = 0.001 if precision is Precision.FP32 else 0.03
            name = f"{precision}, {kernels} kernels, {count} tile(s): largest difference"
            figures.append(figure(name, shift, f"at most {limit}"))
            if not shift <= limit:
                raise RuntimeError(f"{name}: must be at most {limit}, got {shift}")
    return figures


def _tell_absent(name: str, error: KernelsError) -> Figure:
    """A result as good as another: the daemon runs the next kind, and says so."""
    return figure(f"{name}: not used", str(error))


def _infer(engine: Engine, tiles: Tensor, count: int) -> Tensor:
    engine.tiles.copy_(tiles)
    engine.infer(count).fill_(torch.nan)  # what is not written anew shows
    return engine.infer(count).cpu()


def _compute_float64(bench: Bench, tiles: Tensor) -> Tensor:
    if bench.setting.dry:
        return tiles[:, 0].double() / 255
    mean, std = (torch.tensor(each).double().view(3, 1, 1) for each in _normalisation(bench.recipe))
    with torch.inference_mode():
        maps: Tensor = copy.deepcopy(bench.model).double().eval()((tiles.double() / 255 - mean) / std)
    return maps[:, 0]


def _normalisation(recipe: Recipe) -> tuple[tuple[float, ...], tuple[float, ...]]:
    normalisation = recipe.preprocessing.normalisation
    return normalisation.mean, normalisation.std


def _compare(maps: Tensor, expected: Tensor) -> float:
    return float((maps.double() - expected).abs().max() / expected.abs().max())


def measure_kernels(setting: Setting) -> list[Figure]:
    """Each kind of kernels: what it takes to build, and tiles per second; and the forms that fused layers got."""
    if setting.dry:
        return _fuse_dry(setting)
    figures = []
    for kernels in Kernels:
        started = time.perf_counter()
        try:
            bench = Bench(setting, backbone="wide_resnet50_2", kernels=kernels)
        except KernelsError as error:
            figures.append(_tell_absent(f"{kernels} kernels", error))
            continue
        figures.append(bench.tell(f"{kernels} kernels: "))
        figures.append(figure(f"{kernels} kernels: built in, s", time.perf_counter() - started))
        figures.append(figure(f"{kernels} kernels: tiles/s", _measure_tiles_per_s(bench)))
        if kernels is Kernels.FUSED:
            figures += _tell_forms(bench.engine.forms)  # type: ignore[attr-defined]
        del bench
        gc.collect()
    recipe, model = build_recipe(Case(backbone="wide_resnet50_2", frame_hw=setting.frame_hw))
    engine = build_unproved(recipe, model, Precision.BF16, setting.device, None)
    chosen = f"{engine.name}, fallback {engine.fallback}"
    return [*figures, figure("engine chosen", chosen), figure("batch chosen", len(engine.tiles), "8 to 96")]


def _measure_tiles_per_s(bench: Bench) -> float:
    batch, batches = len(bench.engine.tiles), bench.setting.frames
    before = bench.now_s()
    for _ in range(batches):
        bench.engine.infer(batch)
    return batches * batch / (bench.now_s() - before)


class _DryBench:
    """A clock that runs backwards: of each layer the last form counts as the fastest."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def time(self, step: Callable[[], object]) -> float:
        step()
        self._now_s -= 1.0
        return self._now_s

    def poison(self, like: Tensor) -> None:
        """Nothing: the CPU's operators leave nothing unwritten."""


@torch.inference_mode()
def _fuse_dry(setting: Setting) -> list[Figure]:
    recipe, model = build_recipe(Case(tile=setting.tile, stride=setting.tile, frame_hw=setting.frame_hw))
    network = DistanceNetwork(model, *_normalisation(recipe)).to(memory_format=torch.channels_last)
    tiles = torch.randint(0, 256, (2, 3, setting.tile, setting.tile), dtype=torch.uint8)
    images = network.normalise(tiles.to(memory_format=torch.channels_last))
    fused = fuse(network.features, REFERENCE)
    forms = choose_forms(fused, images, _DryBench(), Memory(None))
    late = sum(layer.form is not layer.forms[-1] for layer in get_layers(fused))
    shift = max(
        _compare(found, expected.double())
        for found, expected in zip(fused(images)[1], network.features(images)[1], strict=True)
    )
    if late or not shift <= 0.001:
        raise RuntimeError(f"each layer must run in its last form and give the same, got {late} others and {shift}")
    batch = choose_batch(lambda _: 1.0, 100, Memory(None), "dry")  # each takes as long, so the fewest
    differing = figure("fused, largest difference", shift, "at most 0.001")
    return [*_tell_forms(forms), differing, figure("batch chosen", batch, "8 to 96")]


def _tell_forms(forms: Mapping[Form, int]) -> list[Figure]:
    return [figure(f"layers as {form}", forms.get(form, 0)) for form in Form]


def measure_network(backbone: str) -> Callable[[Setting], list[Figure]]:
    """Tiles per second by batch, and how long building takes."""

    def run(setting: Setting) -> list[Figure]:
        figures = []
        for batch in setting.batches:
            started = time.perf_counter()
            bench = Bench(setting, backbone=backbone, batch=batch)
            figures.append(bench.tell(f"batch {batch}: "))
            figures.append(figure(f"batch {batch}: built in, s", time.perf_counter() - started))
            figures.append(figure(f"batch {batch}: tiles/s", _measure_tiles_per_s(bench)))
            del bench
            gc.collect()
        return figures

    return run


def measure_frames(setting: Setting) -> list[Figure]:
    """Whole frames, three under way: PASS and FAIL; and the peer with TF32 as torch sets it and without."""
    frames = [make_frames(setting.frame_hw, 2, 0)[number % 2] for number in range(setting.frames)]
    figures = []
    for verdict, threshold in ((Verdict.PASS, 1e6), (Verdict.FAIL, None)):
        bench = Bench(setting, backbone="wide_resnet50_2", threshold=threshold or 1e6)
        if threshold is None:  # just below the highest score: few regions, as a defect has
            score = min(judgement.decision.score for judgement in bench.judge_pipelined(frames[:2]))
            bench = Bench(setting, backbone="wide_resnet50_2", threshold=score * 0.999)
        figures.append(bench.tell(f"{verdict}: "))
        before = bench.now_s()
        judgements = bench.judge_pipelined(frames)
        figures.append(figure(f"{verdict}: frames/s", len(frames) / (bench.now_s() - before), "at least 25"))
        if {judgement.decision.verdict for judgement in judgements} != {verdict}:
            raise RuntimeError(f"each frame must be a {verdict}")
    if not setting.dry:
        figures += _measure_peer(setting, bench, frames[0])
    return figures


def _measure_peer(setting: Setting, bench: Bench, pixels: Pixels) -> Iterator[Figure]:
    peer = EagerPeer(bench.model, *_normalisation(bench.recipe), tile=setting.tile, device=setting.device)
    for name, tf32 in (("as torch sets TF32", (False, True)), ("without TF32", (False, False))):
        with tf32_set(*tf32):
            peer.judge(pixels)
            seconds = min(_time(setting, lambda: peer.judge(pixels)) for _ in range(3))
        yield figure(f"peer, {name}: frames/s", 1 / seconds)


def measure_line(setting: Setting) -> list[Figure]:
    """25 frames a second to the device worker, one in twenty a FAIL: how long each waits for its verdict."""
    dim, marked = make_pair(make_frames(setting.frame_hw, 1, 0)[0])
    bench = Bench(setting, backbone="wide_resnet50_2")
    scores = [judgement.decision.score for judgement in bench.judge_pipelined([dim, marked])]
    good, bad = (dim, marked) if scores[0] < scores[1] else (marked, dim)
    bench = Bench(setting, backbone="wide_resnet50_2", threshold=sum(scores) / 2)
    fails = [number % 20 == 7 for number in range(25 * setting.line_s)]
    pixels = [bad if fail else good for fail in fails]
    answers = run_line(bench.detector, pixels, period_s=1 / 25, simulated=bench.simulated if setting.dry else None)
    check_verdicts(answers, [Verdict.FAIL if fail else Verdict.PASS for fail in fails])
    latency = summarise_latency(answers)
    return [
        bench.tell(),
        figure("p50, ms", latency["p50"]),
        figure("p99, ms", latency["p99"], "at most 80"),
        figure("last tenth above the first, ms", latency["growth"], "no backlog"),
    ]


def exhaust_memory(setting: Setting) -> list[Figure]:
    """Out of memory in a batch: half of it is tried, the frame has its verdict, and the next ones too."""
    bench = Bench(setting)
    (pixels,) = make_frames(setting.frame_hw, 1, 0)
    before = len(bench.engine.tiles)
    infer, errors = bench.engine.infer, [torch.OutOfMemoryError("CUDA out of memory: made to fail")]

    def fail_once(count: int) -> Tensor:
        if errors:
            raise errors.pop()
        return infer(count)

    bench.engine.infer = fail_once  # type: ignore[method-assign]
    verdicts = [judgement.decision.verdict.value for judgement in bench.judge_pipelined([pixels] * 4)]
    if verdicts != ["PASS"] * 4 or len(bench.engine.tiles) != before // 2:
        raise RuntimeError(f"must halve {before} and judge all, got {len(bench.engine.tiles)} and {verdicts}")
    return [figure("frames judged after memory ran out", len(verdicts), "4"), bench.tell()]


def check_memory_is_flat(setting: Setting) -> list[Figure]:
    """Many small frames, and five recipes one after the other: what is allocated in the end, above the beginning."""
    small = make_frames((setting.tile // 2, setting.tile), 1, 0)[0]
    marks: list[int] = []
    figures = []
    for number in range(5):
        bench = Bench(setting)
        figures.append(bench.tell(f"recipe {number}: "))
        bench.judge_pipelined([small] * (setting.small_frames // 5))
        del bench
        gc.collect()
        marks.append(0 if setting.dry else torch.cuda.memory_allocated())
    growth = (marks[-1] - marks[0]) / 2**20
    if growth > 1:
        raise RuntimeError(f"memory must be flat over five recipes, grew by {growth:.1f} MiB")
    return [*figures, figure("growth over five recipes, MiB", growth, "at most 1")]


def measure_second_start(setting: Setting) -> list[Figure]:
    """How long an engine takes to build in a process that finds its kernels in the cache of the phases before."""
    started = time.perf_counter()
    bench = Bench(setting, backbone="wide_resnet50_2")
    return [figure("built with a warm cache in, s", time.perf_counter() - started), bench.tell()]


PHASES = {
    "machine": Phase(measure_machine, 60),
    "exactness": Phase(check_exactness, 480),
    "kernels": Phase(measure_kernels, 400),
    "wide_resnet50_2": Phase(measure_network("wide_resnet50_2"), 600),
    "resnet18": Phase(measure_network("resnet18"), 240),
    "frames": Phase(measure_frames, 300),
    "line": Phase(measure_line, 240),
    "memory": Phase(exhaust_memory, 120),
    "flat": Phase(check_memory_is_flat, 240),
    "second start": Phase(measure_second_start, 120),
}
