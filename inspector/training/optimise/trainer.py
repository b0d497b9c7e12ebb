"""The optimisation: how the student learns, which weights are kept, and where a killed run goes on.

More than 300 lines: a step, its memory and its state on disk are one, so that a resumed run ends with the same weights.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from inspector.config import Preprocessing
from inspector.detection.preprocessing import normalise
from inspector.device import is_out_of_memory
from inspector.engine.base import Precision, choose_precision
from inspector.errors import DeviceOutOfMemoryError, TrainingError
from inspector.model import ReverseDistillation, ReverseDistillationLoss
from inspector.training.data.tiles import TileStream, TrainingTile
from inspector.training.optimise.options import TrainOptions
from inspector.training.optimise.schedule import compute_rate_factor, find_limits

logger = logging.getLogger(__name__)

StopReason = Literal["epochs", "steps", "minutes", "plateau", "not_finite"]

_VALIDATIONS = 10
_VALIDATE_AT_LEAST_EVERY = 100
_SAVE_EVERY_S = 20.0  # some hundred megabytes each time
_SMALLEST_BATCH = 2  # batch normalisation needs two


@dataclass(slots=True)
class RunState:
    """Where a run stands. `history` has an entry for each validation."""

    batch_size: int
    step: int = 0
    tiles_seen: int = 0
    seconds: float = 0.0
    best_validation_loss: float = math.inf
    validations_without_gain: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StepReport:
    """What is shown after each step. `share` is of the nearest limit, 0 to 1."""

    share: float
    step: int
    loss: float
    tiles_per_second: float


class Trainer:
    """Trains the student of one model on one device."""

    def __init__(
        self,
        model: ReverseDistillation,
        stream: TileStream,
        validation_tiles: Sequence[Tensor],
        preprocessing: Preprocessing,
        options: TrainOptions,
        device: torch.device,
        identity: Mapping[str, Any],
    ) -> None:
        """Set up.

        Args:
            model: its bottleneck and decoder are trained.
            stream: where tiles come from.
            validation_tiles: (3, t, t) each, [0, 255], of frames that are never trained on.
            preprocessing: mean and deviation of the network's input.
            options: limits, schedule and the like.
            device: where to train.
            identity: what must be the same for a run to be resumed, ready for JSON.
        """
        self.state = RunState(options.batch_size)
        self._model = model.to(device).to(memory_format=torch.channels_last)
        self._stream = stream
        self._validation_tiles = validation_tiles
        self._preprocessing = preprocessing
        self._options = options
        self._device = device
        self._identity = json.loads(json.dumps(identity))
        self._bf16 = options.precision == "bf16" or (
            options.precision == "auto" and choose_precision(device) is Precision.BF16
        )
        self._loss_function = ReverseDistillationLoss()
        self._student = nn.ModuleDict({"bottleneck": model.bottleneck, "decoder": model.decoder})
        self._averaged = AveragedModel(self._student, multi_avg_fn=self._average, use_buffers=True)
        self._optimiser = torch.optim.Adam(
            self._student.parameters(), lr=options.learning_rate, betas=(0.5, 0.999), fused=True
        )
        self._best: dict[str, Tensor] = {}
        self._losses: list[float] = []
        self._last_step, self._last_tile = find_limits(stream.tiles_per_epoch, options)
        length = min(self._last_step, self._last_tile / options.batch_size)
        self._validate_every = max(1, int(min(length / _VALIDATIONS, _VALIDATE_AT_LEAST_EVERY)))

    def run(
        self, report: Callable[[StepReport], None] = lambda report: None, checkpoint: Path | None = None
    ) -> StopReason:
        """Train until a limit is reached; the model then holds the weights to be kept, in eval mode.

        Args:
            report: called after each step.
            checkpoint: file to write after validations, now and then, for `load`.

        Raises:
            TrainingError: the loss is not finite before there are weights to keep.
            DeviceOutOfMemoryError: even the smallest batch does not fit.
        """
        before = self.state.seconds
        started = save_at = time.monotonic()
        self._model.train()
        batches = self._load_batches()
        while (reason := self._find_limit()) is None:
            try:
                loss = self._step(next(batches))
            except RuntimeError as error:
                self._halve_batch(error)
                batches = self._load_batches()
                continue
            self.state.seconds = before + time.monotonic() - started
            if not math.isfinite(loss):
                reason = "not_finite"
                break
            self._losses.append(loss)
            report(self._report(loss))
            if self.state.step % self._validate_every == 0 or self._find_limit():
                self._validate()
                # At the end, too: other networks may have to be trained before all is done.
                if checkpoint is not None and (time.monotonic() >= save_at or self._find_limit()):
                    self._save(checkpoint)
                    save_at = time.monotonic() + _SAVE_EVERY_S
        self._keep(reason)
        return reason

    @property
    def precision(self) -> Literal["fp32", "bf16"]:
        """Precision of the training computations."""
        return "bf16" if self._bf16 else "fp32"

    @property
    def kept_validation_loss(self) -> float:
        """Validation loss of the weights that `run` leaves in the model."""
        return (
            self.state.best_validation_loss
            if self._options.keep == "best"
            else float(self.state.history[-1]["validation_loss"])
        )

    def copy_student_into(self, model: ReverseDistillation) -> None:
        """Give another model of the same kind the weights that would be kept if training ended now."""
        student: Any = self._averaged.module if self._options.average_decay else self._student
        model.bottleneck.load_state_dict(student["bottleneck"].state_dict())
        model.decoder.load_state_dict(student["decoder"].state_dict())

    def _load_batches(self) -> Any:
        return self._stream.load(self.state.tiles_seen, self.state.batch_size, self._device)

    def _share(self) -> float:
        minutes = self._options.minutes
        elapsed = self.state.seconds / (60 * minutes) if minutes else 0.0
        return max(self.state.step / self._last_step, self.state.tiles_seen / self._last_tile, elapsed)

    def _find_limit(self) -> StopReason | None:
        options, state = self._options, self.state
        if options.patience and state.validations_without_gain >= options.patience:
            return "plateau"
        if state.step >= self._last_step:
            return "steps"
        if state.tiles_seen >= self._last_tile:
            return "epochs"
        if options.minutes and state.seconds >= 60 * options.minutes:
            return "minutes"
        return None

    def _step(self, batch: TrainingTile) -> float:
        rate = self._options.learning_rate * compute_rate_factor(self._options.schedule, self._share())
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            teacher = self._model.encoder(self._prepare(batch.clean))
            shown = teacher
            if bool(batch.changed.any()):
                which = batch.changed.nonzero()[:, 0]
                features = self._model.encoder(self._prepare(batch.shown[which]))
                which = which.to(self._device)
                shown = [good.index_copy(0, which, bad) for good, bad in zip(teacher, features, strict=True)]
            student = self._model.decoder(self._model.bottleneck(shown))
        loss: Tensor = self._loss_function([f.float() for f in teacher], [f.float() for f in student])
        value = loss.item()
        if not math.isfinite(value):
            return value  # before it reaches the weights
        self._optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._optimiser.step()
        if self._options.average_decay:
            self._averaged.update_parameters(self._student)
        self.state.step += 1
        self.state.tiles_seen += len(batch.clean)
        return value

    def _prepare(self, tiles: Tensor) -> Tensor:
        moved = tiles.to(self._device, non_blocking=True)
        return normalise(moved, self._preprocessing).contiguous(memory_format=torch.channels_last)

    def _average(self, averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        # The early weights are far off: the average forgets them faster while it is young.
        number = float(count)
        decay = min(self._options.average_decay, (1 + number) / (10 + number))
        for old, new in zip(averaged, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new, 1 - decay)
            else:
                old.copy_(new)

    def _report(self, loss: float) -> StepReport:
        rate = self.state.tiles_seen / max(self.state.seconds, 1e-9)
        return StepReport(min(self._share(), 1.0), self.state.step, loss, rate)

    @torch.no_grad()
    def _validate(self) -> None:
        student: Any = (self._averaged.module if self._options.average_decay else self._student).eval()
        loss = 0.0
        count = max(1, self.state.batch_size // 2)  # float32 without gradients: less memory than a step
        for start in range(0, len(self._validation_tiles), count):
            tiles = torch.stack(list(self._validation_tiles[start : start + count]))
            teacher = self._model.encoder(self._prepare(tiles))
            mean = float(self._loss_function(teacher, student["decoder"](student["bottleneck"](teacher))))
            loss += mean * len(tiles) / len(self._validation_tiles)
        self._student.train()
        state = self.state
        entry = {
            "step": state.step,
            "tiles_seen": state.tiles_seen,
            "seconds": round(state.seconds, 1),
            "loss": sum(self._losses) / len(self._losses),
            "validation_loss": loss,
            "learning_rate": self._optimiser.param_groups[0]["lr"],
        }
        state.history.append(entry)
        self._losses.clear()
        better = loss < state.best_validation_loss
        state.validations_without_gain = 0 if better else state.validations_without_gain + 1
        if better:
            state.best_validation_loss = loss
        if better or (self._options.keep == "last" and math.isfinite(loss)):
            self._best = {name: value.clone() for name, value in student.state_dict().items()}

    def _keep(self, reason: StopReason) -> None:
        if not self._best:
            raise TrainingError(
                f"loss: must be finite, got nan at step {self.state.step + 1}; there are no earlier weights to keep"
            )
        if reason == "not_finite":
            logger.error("the loss is not finite at step %d: earlier weights are kept", self.state.step + 1)
        self._student.load_state_dict(self._best)
        self._model.eval()

    def _halve_batch(self, error: RuntimeError) -> None:
        if not is_out_of_memory(error):
            raise error
        size = max(self.state.batch_size // 2, _SMALLEST_BATCH)
        if size == self.state.batch_size:
            raise DeviceOutOfMemoryError(f"device out of memory even at {self.state.batch_size} tiles: {error}")
        logger.warning("out of memory at %d tiles per batch: continuing with %d", self.state.batch_size, size)
        self.state.batch_size = size
        self._optimiser.zero_grad(set_to_none=True)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _save(self, path: Path) -> None:
        content = {
            "identity": json.dumps(self._identity),
            "state": json.dumps(asdict(self.state)),
            "student": self._student.state_dict(),
            "averaged": self._averaged.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "best": self._best,
        }
        temporary = path.with_suffix(".new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(content, temporary)
            temporary.replace(path)
        except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
            temporary.unlink(missing_ok=True)
            logger.warning("%s: the training state cannot be saved, training continues without it: %s", path, error)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            TrainingError: it cannot be read, or is of another training.
        """
        try:
            content = torch.load(path, map_location=self._device, weights_only=True)
            identity = json.loads(content["identity"])
        except Exception as error:  # torch raises many kinds here; each means: this file cannot be used
            raise TrainingError(f"--resume: {path} cannot be used ({type(error).__name__}: {error})") from error
        for name, value in self._identity.items():
            if identity.get(name) != value:
                raise TrainingError(f"--resume: {name} must be unchanged, {identity.get(name)!r}, got {value!r}")
        self.state = RunState(**json.loads(content["state"]))
        self._student.load_state_dict(content["student"])
        self._averaged.load_state_dict(content["averaged"])
        self._optimiser.load_state_dict(content["optimiser"])
        self._best = content["best"]
