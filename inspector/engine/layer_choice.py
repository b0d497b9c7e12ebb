"""Which form each fused layer runs in: the fastest on this device of those that are right, remembered on disk."""

from __future__ import annotations

import json
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from enum import Enum, auto
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from inspector.device import is_out_of_memory
from inspector.engine.fusion import Form, Layer, get_layers
from inspector.errors import InspectorError
from inspector.files import write_whole

logger = logging.getLogger(__name__)

_LIMITS = {torch.float32: 1e-4, torch.bfloat16: 0.02, torch.float16: 0.005}
"""How far a form may be from the plain one, as a share of the largest value: that rounds thrice, a fused one once."""


BATCHES = (32, 16, 8, 48, 64, 96)
"""Tiles at once that are tried on a GPU, the usual number first: time may run out before the others."""

_GAIN = 1.02
"""What a larger batch must be faster by: it takes more memory, and its first tile waits longer."""


class Bench(Protocol):
    """The device, as far as trying a layer out goes."""

    def time(self, step: Callable[[], object]) -> float:
        """Seconds that `step` takes on the device, the host's share left out."""
        ...

    def poison(self, like: Tensor) -> None:
        """Leave NaN in the memory that the next tensor of this size will get."""
        ...


class Budget:
    """Time in which something may be timed; it runs from the moment this is made."""

    def __init__(self, seconds: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._end_s = now_s() + seconds

    def is_spent(self) -> bool:
        """Whether nothing more may be timed."""
        return self._now_s() >= self._end_s


UNLIMITED = Budget(math.inf)


class Memory:
    """Choices by layer and shape, or by network, in a file: of one GPU with one driver, cuDNN and torch.

    What it does not hold is timed again, which is all that a lost or torn file costs.
    """

    def __init__(self, path: Path | None) -> None:
        """`path`: whether or not it exists; None: nowhere."""
        self._path = path
        self._known = _read(path) if path is not None else {}
        self._before = dict(self._known)

    def get(self, name: str) -> str | None:
        """What was chosen; None: nothing was."""
        return self._known.get(name)

    def put(self, name: str, choice: str) -> None:
        """Remember a choice."""
        self._known[name] = choice

    def save(self) -> None:
        """Write the file, whole or not at all, where there is anything new; a folder that cannot be written is none."""
        if self._path is None or self._known == self._before:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps(self._known, indent=1, sort_keys=True).encode())
        except (OSError, InspectorError) as error:
            logger.warning("%s: cannot be written, the next start will time the layers again: %s", self._path, error)


def _read(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    known = content if isinstance(content, dict) else {}
    return {name: choice for name, choice in known.items() if isinstance(choice, str)}


@torch.inference_mode()
def choose_forms(
    fused: nn.Module, images: Tensor, bench: Bench, memory: Memory, budget: Budget = UNLIMITED
) -> Mapping[Form, int]:
    """Choose the form of each layer of a fused network, while it runs `images`; how many run in which.

    A layer that is not remembered once `budget` is spent runs as the plain one, and is timed at the next start.

    Raises:
        RuntimeError: the device's fault, memory included.
    """
    layers = get_layers(fused)
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs: _choose(layer, inputs, bench, memory, budget))
        for layer in layers
    ]
    try:
        fused(images)
    finally:
        for hook in hooks:
            hook.remove()
        memory.save()
    return Counter(layer.form for layer in layers)


def _choose(layer: Layer, inputs: tuple[Tensor, ...], bench: Bench, memory: Memory, budget: Budget) -> None:
    name = layer.describe(*inputs)
    known = next((form for form in layer.forms if form == memory.get(name)), None)
    if known is None and budget.is_spent():
        known = Form.PLAIN
    trials = {form: _try(layer, form, inputs, bench) for form in ([known] if known else layer.forms)}
    right = [form for form, trial in trials.items() if trial is _Trial.RIGHT]
    if known is None:
        seconds = {form: bench.time(lambda form=form: layer.run(form, *inputs)) for form in right}  # type: ignore[misc]
        known = min(right, key=seconds.__getitem__)
        if _Trial.FAILED not in trials.values():
            memory.put(name, known)
    layer.form = known if known in right else Form.PLAIN


class _Trial(Enum):
    """What came of a form: as the plain one, not so, or an error, which may not come again at the next start."""

    RIGHT = auto()
    WRONG = auto()
    FAILED = auto()


def _try(layer: Layer, form: Form, inputs: tuple[Tensor, ...], bench: Bench) -> _Trial:
    """Whether a form gives what the plain one gives, whatever its memory held before, and hides no NaN.

    Raises:
        RuntimeError: no memory.
    """
    if form is Form.PLAIN:
        return _Trial.RIGHT
    trial = _Trial.WRONG
    try:
        fault = _find_fault(layer, form, inputs, bench)
    except RuntimeError as error:  # what cuDNN does not do, or no memory that torch does not tell as such
        if is_out_of_memory(error):
            raise
        trial, fault = _Trial.FAILED, str(error)
    if fault:
        logger.warning("layer %s: runs unfused, as %s %s", layer.describe(*inputs), form, fault)
    return trial if fault else _Trial.RIGHT


def _find_fault(layer: Layer, form: Form, inputs: tuple[Tensor, ...], bench: Bench) -> str:
    expected = layer.run(Form.PLAIN, *inputs)
    layer.run(form, *inputs)  # the first time cuDNN tries its kernels out, and leaves what one of them wrote
    bench.poison(expected)
    found = layer.run(form, *inputs)
    if (found.shape, found.stride(), found.dtype) != (expected.shape, expected.stride(), expected.dtype):
        return "gives another shape, order or type"
    limit = _LIMITS[expected.dtype] * expected.abs().max().float()
    if not bool((found.float() - expected.float()).abs().max() <= limit):  # NaN included
        return "gives other values"
    return "hides NaN" if any(_hides_nan(layer, form, inputs, index) for index in range(len(inputs))) else ""


def _hides_nan(layer: Layer, form: Form, inputs: tuple[Tensor, ...], index: int) -> bool:
    spoilt = [each.clone() for each in inputs]
    height, width = spoilt[index].shape[2:]
    spoilt[index][0, 0, height // 2, width // 2] = torch.nan
    expected = layer.run(Form.PLAIN, *spoilt).isnan()
    return bool((expected & ~layer.run(form, *spoilt).isnan()).any())


def choose_batch(
    time_batch: Callable[[int], float], tiles: int | None, memory: Memory, name: str, budget: Budget = UNLIMITED
) -> int | None:
    """The smallest of `BATCHES` that is about as fast as the fastest, remembered under `name`.

    Once `budget` is spent, the best of those timed is chosen. What each took is remembered as it comes.

    Args:
        time_batch: seconds that a batch of so many takes; raises where there is no memory for it.
        tiles: of a frame, whose last batch may be part empty; None: not known, so the time of a tile counts.
        memory: what was chosen before.
        name: of the network.
        budget: time that may be taken.

    Returns:
        None: nothing is remembered, and there is no time.

    Raises:
        RuntimeError: the device's fault, or no memory even for the smallest.
    """
    known = next((batch for batch in BATCHES if str(batch) == memory.get(name)), None)
    if known is not None or budget.is_spent():
        return known
    costs: dict[int, float] = {}
    room = max(BATCHES)
    for batch in BATCHES:
        if batch > room:
            continue
        try:
            seconds = _time_once(time_batch, batch, memory, f"{name}: seconds of {batch}", budget)
        except RuntimeError as error:
            if not is_out_of_memory(error) or (batch == min(BATCHES) and not costs):
                raise
            room = batch - 1
            continue
        if costs and budget.is_spent():
            break
        costs[batch] = seconds * (1 / batch if tiles is None else -(-tiles // batch))
    best = min(batch for batch, cost in costs.items() if cost <= _GAIN * min(costs.values()))
    memory.put(name, str(best))
    memory.save()
    return best


def _time_once(time_batch: Callable[[int], float], batch: int, memory: Memory, name: str, budget: Budget) -> float:
    """As a start that was ended in the middle of it remembered it, or timed now."""
    known = memory.get(name)
    if known is not None:
        return float(known)
    seconds = time_batch(batch)
    if not budget.is_spent():  # else not all of its layers may have been timed
        memory.put(name, str(seconds))
        memory.save()
    return seconds
