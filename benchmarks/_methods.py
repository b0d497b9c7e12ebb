"""What is measured: frames, one network for both, and how each method judges a frame."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from inspector.config import WEIGHTS_FILE, Preprocessing, Recipe, Threshold, Tiling, load_recipe
from inspector.detection.detector import Detector
from inspector.detection.preprocessing import normalise
from inspector.detection.run import FrameRun
from inspector.detection.tiling import TileGrid, Tiler
from inspector.engine.base import Engine, Precision
from inspector.engine.build import build_eager
from inspector.engine.build_cuda import CudaOrder, build_cuda_engine
from inspector.engine.cache import find_user_cache
from inspector.engine.graphs import convert
from inspector.model import ReverseDistillation
from inspector.model.backbones import architecture
from inspector.model.checkpoint import load_weights
from inspector.model.encoder import LAYERS
from inspector.recipe.network import build_model
from inspector.types import PixelFormat

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

PEER = "anomalib"
PEER_WITHOUT_TF32 = "anomalib without TF32"
QUANTISATION_TILES = 32
_STATISTICS_TILES = 8
_TF32_AS_TORCH_SETS_IT = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
"""Noted before an engine of ours forbids it, for the whole process."""


@dataclass(frozen=True, slots=True)
class Case:
    """One setting to measure. `recipe`: folder whose weights are taken; None: random ones. `batch`: None: engine's.

    `width`: of the bottleneck of random weights, that of anomalib or of the official code, which is twice as wide.
    `student`: of random weights, full or light.
    """

    device: str = "cpu"
    backbone: str = "resnet18"
    frame_hw: tuple[int, int] = (2048, 2448)
    tile: int = 256
    stride: int = 256
    batch: int | None = None
    recipe: Path | None = None
    seed: int = 0
    width: str = PEER
    student: str = "full"

    @property
    def is_the_peers_network(self) -> bool:
        """Whether the peer can run with the same weights."""
        return self.recipe is None and self.width == PEER and self.student == "full"


class Method(Protocol):
    """Judges frames, each from pixels on the host to a decision on the host."""

    name: str

    @property
    def tiles(self) -> int:
        """Tiles that run per frame."""
        ...

    def judge(self, pixels: Pixels) -> bool:
        """Whether the frame (H, W, 3), RGB, fails."""
        ...


def make_frames(frame_hw: tuple[int, int], count: int, seed: int) -> list[Pixels]:
    """Textured random RGB frames (H, W, 3): noise from coarse to fine, another one per frame."""
    random = np.random.default_rng(seed)
    height, width = frame_hw
    frames = []
    for _ in range(count):
        texture = np.full((height, width, 3), 128, dtype=np.float32)
        for cell, amplitude in ((64, 30), (16, 20), (4, 15), (1, 8)):
            coarse = random.normal(0, amplitude, (-(-height // cell), -(-width // cell), 3)).astype(np.float32)
            texture += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
        frames.append(np.clip(texture, 0, 255).astype(np.uint8))
    return frames


def build_recipe(case: Case) -> tuple[Recipe, ReverseDistillation]:
    """The recipe and network of a case, in eval mode, threshold still 1: a recipe's weights, or random ones."""
    if case.recipe is None:
        recipe = Recipe(
            recipe_id="benchmark",
            backbone=case.backbone,
            bottleneck_width=case.width,
            student=case.student,
            tiling=Tiling(tile_size=case.tile, stride=case.stride),
            threshold=Threshold(value=1.0, method="manual"),
            weights_sha256="0" * 64,
        )
        torch.manual_seed(case.seed)
        model = build_model(recipe)
        _collect_statistics(model, _normalised_tiles(case, recipe))
        return recipe, model.eval()
    recipe = load_recipe(case.recipe)
    plain = Preprocessing(normalisation=recipe.preprocessing.normalisation)  # frames are made at the network's scale
    # Tile size and map normalisation belong to the weights; masks and zones to frames that are not these.
    changes = {"preprocessing": plain, "roi_mask": None, "roi_mask_sha256": None, "zones": (), "min_region_area": 1}
    recipe = recipe.model_copy(update=changes | {"threshold": Threshold(value=1.0, method="manual")})
    model = build_model(recipe)
    load_weights(model, case.recipe / WEIGHTS_FILE)
    return recipe, model.eval()


def adopt_recipe(case: Case) -> Case:
    """The case with backbone and tiling of its recipe, where it names one."""
    if case.recipe is None:
        return case
    recipe = load_recipe(case.recipe)
    tiling = recipe.tiling
    return dataclasses.replace(case, backbone=recipe.backbone, tile=tiling.tile_size, stride=tiling.stride)


def cut_tiles(frame: Pixels, recipe: Recipe, count: int) -> Tensor:
    """At most `count` tiles (n, 3, t, t) of a frame, spread over it."""
    image = torch.from_numpy(frame).permute(2, 0, 1)
    grid = build_grid(recipe, (frame.shape[0], frame.shape[1]))
    tiles = grid.tile(image)
    return tiles[:: max(1, len(tiles) // count)][:count].contiguous()


def build_grid(recipe: Recipe, frame_hw: tuple[int, int]) -> TileGrid:
    """The tiles that ours cuts out of a frame."""
    return Tiler(recipe.tiling.tile_size, recipe.tiling.stride).grid(frame_hw)


def _normalised_tiles(case: Case, recipe: Recipe) -> Tensor:
    side = max(2 * case.tile, 256)
    frame = make_frames((side, side), 1, case.seed)[0]
    return normalise(cut_tiles(frame, recipe, _STATISTICS_TILES), recipe.preprocessing)


@torch.no_grad()
def _collect_statistics(model: ReverseDistillation, tiles: Tensor) -> None:
    """BatchNorm statistics of `tiles`, so that random weights neither drown nor blow up the features."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean
        norm.training = True
    model.features(tiles)
    for norm in norms:
        norm.training = False


class Ours:
    """The detector on one engine, as the daemon runs it: one frame from start to end."""

    def __init__(self, name: str, recipe: Recipe, engine: Engine, frame_hw: tuple[int, int]) -> None:
        self.name = name
        self.detector = Detector(recipe, engine)
        self.tiles = len(build_grid(recipe, frame_hw))
        self.detector.warm_up()

    def judge(self, pixels: Pixels) -> bool:
        """As `Method`. `Detector.judge` returns when the score is on the host, so there is nothing left to wait for."""
        decision = self.detector.judge(pixels, PixelFormat.RGB8).decision
        return decision.verdict == "FAIL"

    def judge_all(self, frames: Iterable[Pixels]) -> int:
        """Judge frames with as many under way at once as the engine can use, as the daemon does; how many fail."""
        waiting, under_way, fails = deque(frames), deque[FrameRun](), 0
        while waiting or under_way:
            while waiting and len(under_way) < self.detector.engine.frames_in_flight:
                under_way.append(self.detector.begin(waiting.popleft(), PixelFormat.RGB8))
            if unfinished := [run for run in under_way if not run.is_done]:
                self.detector.advance(unfinished)
            if under_way[0].is_done and (under_way[0].is_ready or not unfinished):
                fails += self.detector.finish(under_way.popleft()).decision.verdict == "FAIL"
        return fails

    def compute(self, pixels: Pixels) -> tuple[np.ndarray[Any, np.dtype[np.float32]], float]:
        """The frame's blended map (H, W), and its score."""
        judgement = self.detector.judge(pixels, PixelFormat.RGB8)
        return judgement.anomaly_map.copy(), judgement.decision.score


def build_unproved(
    recipe: Recipe, model: ReverseDistillation, precision: Precision, device: torch.device, batch: int | None
) -> Engine:
    """A GPU's engine as the daemon would have it, but for the proof: random weights have no probe."""
    order = CudaOrder(recipe, model, precision, device, batch, find_user_cache(), lambda engine: engine)
    return build_cuda_engine(order)


def build_engine(
    case: Case, recipe: Recipe, model: ReverseDistillation, precision: Precision, frame: Pixels
) -> tuple[Engine, dict[str, Any]]:
    """The engine for a precision, and OpenVINO's graphs where it runs them; int8 is quantised on tiles of `frame`.

    Raises:
        ValueError: the device has no engine for the precision.
    """
    if precision is (Precision.FP16 if case.device == "cpu" else Precision.INT8):
        raise ValueError(f"--precision: must not be fp16 on the CPU or int8 on CUDA, got {precision} on {case.device}")
    if case.device != "cpu":
        return build_unproved(recipe, model, precision, torch.device(case.device), case.batch), {}
    from inspector.engine import openvino

    graphs = convert(recipe, model)
    if precision is Precision.INT8:
        logging.getLogger("nncf").setLevel(logging.WARNING)
        tiles = cut_tiles(frame, recipe, QUANTISATION_TILES).permute(0, 2, 3, 1).contiguous()
        graphs[openvino.DISTANCES] = openvino.quantise(graphs[openvino.DISTANCES], tiles.numpy())
    side = recipe.tiling.tile_size
    return openvino.OpenVinoEngine(graphs, precision, side=side, dtype=torch.uint8, batch=case.batch), graphs


def build_reference(recipe: Recipe, model: ReverseDistillation, frame_hw: tuple[int, int]) -> Ours:
    """Float32, operation by operation, on the CPU: what every map is compared with."""
    return Ours("eager", recipe, build_eager(recipe, copy.deepcopy(model), batch=4), frame_hw)


@contextlib.contextmanager
def tf32_set(matmul: bool, convolutions: bool) -> Iterator[None]:
    """TF32 in products and in convolutions as given, and then as it was."""
    before = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolutions
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


class Peer:
    """anomalib's torch model with its own tiler, float32, as its users run it on a frame read from a camera.

    That is with TF32 as torch sets it: our engines forbid it for the whole process, which would slow the peer down.
    """

    def __init__(self, case: Case, recipe: Recipe, threshold: float, *, tf32: bool = True) -> None:
        """Build it with random weights; see `copy_weights`. `tf32`: False forbids it, for comparison."""
        self.name = PEER if tf32 else PEER_WITHOUT_TF32
        self._tf32 = _TF32_AS_TORCH_SETS_IT if tf32 else (False, False)
        from anomalib.data.utils.tiler import Tiler as PeerTiler
        from anomalib.models.image.reverse_distillation.anomaly_map import AnomalyMapGenerationMode
        from anomalib.models.image.reverse_distillation.torch_model import ReverseDistillationModel

        backbone = architecture(case.backbone)
        mode = AnomalyMapGenerationMode.ADD
        model = ReverseDistillationModel(backbone, case.frame_hw, list(LAYERS), mode, pre_trained=False)
        self.model: Any = model.to(case.device).eval()
        self.model.tiler = PeerTiler(case.tile, case.stride)
        self._device = torch.device(case.device)
        mean, std = recipe.preprocessing.normalisation.mean, recipe.preprocessing.normalisation.std
        self._mean = torch.tensor(mean, device=self._device).view(3, 1, 1)
        self._std = torch.tensor(std, device=self._device).view(3, 1, 1)
        self._threshold = threshold

    @property
    def tiles(self) -> int:
        """Of the frame judged last, those that lie partly in the padding included."""
        return int(self.model.tiler.num_patches_h * self.model.tiler.num_patches_w)

    @torch.no_grad()
    def judge(self, pixels: Pixels) -> bool:
        """As `Method`: float32 on the host, as its data set reads a frame; upload; normalise; map and score back."""
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        images = (image.to(self._device) - self._mean) / self._std
        with tf32_set(*self._tf32):
            batch = self.model(images)
            batch.anomaly_map.cpu()  # waits for the device
        return bool(batch.pred_score.cpu().max() > self._threshold)

    def copy_weights(self, ours: ReverseDistillation) -> None:
        """Take over a network of the same architecture, bottleneck width `anomalib`."""
        self.model.encoder.feature_extractor.load_state_dict(ours.encoder.feature_extractor.state_dict())
        self.model.decoder.load_state_dict(ours.decoder.state_dict())
        # Its bottleneck has a fourth convolution that takes part in no computation.
        left = self.model.bottleneck.load_state_dict(ours.bottleneck.state_dict(), strict=False)
        strange = [key for key in left.missing_keys if not key.startswith(("conv4.", "bn4."))] + left.unexpected_keys
        if strange:
            raise ValueError(f"bottleneck: must have anomalib's tensors, got {strange}")

    @torch.no_grad()
    def compare_features(self, ours: ReverseDistillation, images: Tensor) -> float:
        """Largest difference of any feature of both networks on `images`, as a share of the largest feature."""
        moved = images.to(self._device)
        teacher = list(self.model.encoder(moved).values())
        theirs: Sequence[Tensor] = [*teacher, *self.model.decoder(self.model.bottleneck(teacher))]
        mine = [features for part in ours.features(images) for features in part]
        pairs = [(a.cpu(), b.cpu()) for a, b in zip(theirs, mine, strict=True)]
        return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
