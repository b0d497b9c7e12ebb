"""Which form a layer gets: timed by a clock that is told what to say, and guarded against operators that are wrong."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from inspector.engine.fusion import REFERENCE, Form, Operators, fuse, get_layers
from inspector.engine.layer_choice import BATCHES, Budget, Memory, choose_batch, choose_forms

IMAGES = torch.rand(2, 4, 6, 6, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)


class Block(nn.Module):
    """One layer of each kind: 3×3, 1×1 and a sum with what came in."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.wide, self.narrow, self.last = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 4, 1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.last(self.relu(self.narrow(self.relu(self.wide(x))))) + x)


class FakeBench:
    """A device whose clock says of each form what it is told; `dirty` until something new is written to its memory."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = {"plain": 2.0, "convolution": 1.0, "product": 3.0} | seconds
        self.form = "plain"
        self.timed: list[str] = []
        self.dirty = False

    def time(self, step: Callable[[], object]) -> float:
        self.form = "plain"
        step()
        self.timed.append(self.form)
        return self.seconds[self.form]

    def poison(self, like: Tensor) -> None:
        self.dirty = True

    def watch(self, operators: Operators = REFERENCE) -> Operators:
        """The same operators, which say what ran."""
        forms = {"convolve_relu": "convolution", "convolve_add_relu": "convolution", "multiply_relu": "product"}
        return replace(operators, **{name: self._note(getattr(operators, name), form) for name, form in forms.items()})

    def _note(self, operator: Callable[..., Tensor], form: str) -> Callable[..., Tensor]:
        def run(*args: Any) -> Tensor:
            self.form = form
            out = operator(*args)
            self.dirty = False
            return out

        return run


def choose(bench: FakeBench, path: Path | None = None, operators: Operators = REFERENCE) -> fx.GraphModule:
    fused = fuse(Block().eval().to(memory_format=torch.channels_last), bench.watch(operators))
    choose_forms(fused, IMAGES, bench, Memory(path))
    return fused


def forms_of(fused: fx.GraphModule) -> list[str]:
    return [layer.form.value for layer in get_layers(fused)]


def test_each_layer_gets_the_form_that_was_fastest() -> None:
    assert forms_of(choose(FakeBench())) == ["convolution"] * 3
    assert forms_of(choose(FakeBench(product=0.5))) == ["convolution", "product", "convolution"]
    assert forms_of(choose(FakeBench(plain=0.1))) == ["plain"] * 3
    bench = FakeBench()
    choose(bench)
    assert bench.timed == ["plain", "convolution", "plain", "convolution", "product", "plain", "convolution"]


def test_numbers_of_forms_are_told_when_chosen() -> None:
    bench = FakeBench(product=0.5)
    fused = fuse(Block().eval(), bench.watch())
    assert choose_forms(fused, IMAGES, bench, Memory(None)) == {Form.CONVOLUTION: 2, Form.PRODUCT: 1}
    expected = Block().eval()(IMAGES)
    torch.testing.assert_close(fused(IMAGES), expected, rtol=0, atol=1e-6)
    bench.timed.clear()
    fused(IMAGES)
    assert bench.timed == []  # chosen once


def test_nothing_is_timed_when_it_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "engines" / "layers.json"
    choose(FakeBench(product=0.5), path)
    again = FakeBench(plain=0.0)
    assert forms_of(choose(again, path)) == ["convolution", "product", "convolution"]
    assert again.timed == []


def test_layers_are_timed_again_when_the_batch_or_the_type_is_another(tmp_path: Path) -> None:
    path = tmp_path / "layers.json"
    choose(FakeBench(), path)
    for images in (IMAGES[:1], IMAGES.bfloat16()):
        bench = FakeBench()
        fused = fuse(Block().eval().to(images.dtype), bench.watch())
        choose_forms(fused, images, bench, Memory(path))
        assert len(bench.timed) == 7
    assert len(json.loads(path.read_bytes())) == 9


@pytest.mark.parametrize("content", [b"", b'{"a": "convo', b"[]", b'{"a": 1}', b"\xff"])
def test_torn_file_is_ignored_and_written_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "layers.json"
    path.write_bytes(content)
    assert forms_of(choose(FakeBench(), path)) == ["convolution"] * 3
    assert list(json.loads(path.read_bytes()).values()) == ["convolution"] * 3


@pytest.mark.parametrize("form", ["product", "winograd"])
def test_remembered_form_that_a_layer_has_not_is_timed_anew(tmp_path: Path, form: str) -> None:
    path = tmp_path / "layers.json"
    choose(FakeBench(), path)
    known = json.loads(path.read_bytes())
    path.write_text(json.dumps(dict.fromkeys(known, form)))
    assert "convolution" in forms_of(choose(FakeBench(), path))


def test_choice_goes_on_with_a_warning_when_it_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert forms_of(choose(FakeBench(), tmp_path / "file" / "layers.json")) == ["convolution"] * 3
    assert "cannot be written, the next start will time the layers again" in caplog.text


def swallow(*args: Any) -> Tensor:
    return REFERENCE.convolve_relu(*args).nan_to_num(0.0)


def fail(*args: Any) -> Tensor:
    raise RuntimeError("CUDNN_STATUS_NOT_SUPPORTED")


@pytest.mark.parametrize(
    ("operator", "fault"),
    [
        (swallow, "hides NaN"),
        (fail, "CUDNN_STATUS_NOT_SUPPORTED"),
        (lambda *args: REFERENCE.convolve_relu(*args) * 1.01, "gives other values"),
        (lambda *args: REFERENCE.convolve_relu(*args) * torch.nan, "gives other values"),
        (lambda *args: REFERENCE.convolve_relu(*args).contiguous(), "gives another shape, order or type"),
        (lambda *args: REFERENCE.convolve_relu(*args).double(), "gives another shape, order or type"),
    ],
)
def test_layer_runs_unfused_when_its_operator_is_wrong(
    caplog: pytest.LogCaptureFixture, operator: Callable[..., Tensor], fault: str
) -> None:
    with caplog.at_level(logging.WARNING):
        fused = choose(FakeBench(), operators=replace(REFERENCE, convolve_relu=operator))
    assert forms_of(fused)[::2] == ["plain", "convolution"]
    assert f"runs unfused, as convolution {fault}" in caplog.text


def test_layer_runs_unfused_when_its_operator_hides_nan_of_what_it_adds() -> None:
    def add(x: Tensor, weight: Tensor, z: Tensor, alpha: float, bias: Tensor, *settings: Any) -> Tensor:
        return F.relu(torch.conv2d(x, weight, bias, *settings) + alpha * z.nan_to_num(0.0))

    assert forms_of(choose(FakeBench(), operators=replace(REFERENCE, convolve_add_relu=add)))[2] == "plain"


def test_layer_runs_unfused_when_its_operator_reads_its_unwritten_output() -> None:
    bench = FakeBench()

    def read(*args: Any) -> Tensor:
        out = REFERENCE.convolve_relu(*args)
        return out + torch.nan if bench.dirty else out

    assert forms_of(choose(bench, operators=replace(REFERENCE, convolve_relu=read)))[0] == "plain"


def test_remembered_form_is_not_used_when_it_has_become_wrong(tmp_path: Path) -> None:
    path = tmp_path / "layers.json"
    choose(FakeBench(), path)
    fused = choose(FakeBench(), path, replace(REFERENCE, convolve_relu=swallow))
    assert forms_of(fused)[0] == "plain"
    assert forms_of(choose(FakeBench(), path)) == ["convolution"] * 3  # a driver may be put right


def test_lack_of_memory_is_raised_when_a_layer_is_tried() -> None:
    def exhaust(*args: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        choose(FakeBench(), operators=replace(REFERENCE, convolve_relu=exhaust))


def time_batches(seconds_a_tile: dict[int, float], room_for: int = 96) -> Callable[[int], float]:
    def time_batch(batch: int) -> float:
        if batch > room_for:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return batch * seconds_a_tile.get(batch, 1.0)

    return time_batch


@pytest.mark.parametrize(
    ("seconds_a_tile", "tiles", "room_for", "chosen"),
    [
        ({}, None, 96, 8),
        ({96: 0.5}, None, 96, 96),
        ({48: 0.5}, None, 96, 48),
        ({16: 0.990, 96: 0.985}, None, 96, 8),  # hardly faster
        ({64: 0.5, 96: 0.4}, None, 64, 64),
        ({}, 96, 96, 8),
        ({96: 0.9}, 97, 96, 8),  # a second batch for one tile
        ({48: 0.9, 96: 0.9}, 96, 96, 48),
        ({}, 100, 96, 8),  # 104 places; 112 in batches of 16
    ],
)
def test_batch_is_the_smallest_of_the_fastest(
    seconds_a_tile: dict[int, float], tiles: int | None, room_for: int, chosen: int
) -> None:
    assert choose_batch(time_batches(seconds_a_tile, room_for), tiles, Memory(None), "batch") == chosen


def test_batch_is_not_timed_when_it_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "layers.json"
    assert choose_batch(time_batches({64: 0.5}), None, Memory(path), "batch of a") == 64
    timed: list[int] = []

    def time_batch(batch: int) -> float:
        timed.append(batch)
        return 1.0

    assert choose_batch(time_batch, None, Memory(path), "batch of a") == 64
    assert timed == []
    assert choose_batch(time_batch, None, Memory(path), "batch of b") == 96
    assert timed == list(BATCHES)
    path.write_text(json.dumps({"batch of a": "1000000"}))
    assert choose_batch(time_batch, None, Memory(path), "batch of a") == 96


@pytest.mark.parametrize("message", ["CUDA out of memory", "CUDA error: unspecified launch failure"])
def test_fault_of_the_device_is_raised_when_a_batch_is_timed(message: str) -> None:
    def time_batch(batch: int) -> float:
        raise RuntimeError(message)

    with pytest.raises(RuntimeError, match=message):
        choose_batch(time_batch, None, Memory(None), "batch")


class Clock:
    """A monotonic clock that stands still unless it is told."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_best_batch_so_far_is_remembered_when_the_time_is_spent(tmp_path: Path) -> None:
    clock, timed = Clock(), []
    budget = Budget(60.0, clock)

    def time_batch(batch: int) -> float:
        timed.append(batch)
        clock.now_s += 25.0
        return batch * {32: 1.0, 16: 0.5, 8: 0.1}[batch]

    memory = Memory(tmp_path / "layers.json")
    assert choose_batch(time_batch, None, memory, "batch", budget) == 16  # that of 8 ended too late to be trusted
    assert timed == [32, 16, 8]
    assert choose_batch(time_batch, None, Memory(tmp_path / "layers.json"), "batch") == 16
    assert timed == [32, 16, 8]


def test_batch_is_not_chosen_when_there_is_no_time_unless_it_is_remembered() -> None:
    memory, none_left = Memory(None), Budget(0.0, Clock())
    assert choose_batch(time_batches({}), None, memory, "batch", none_left) is None
    assert memory.get("batch") is None
    memory.put("batch", "48")
    assert choose_batch(time_batches({}), None, memory, "batch", none_left) == 48


def test_batches_that_were_timed_are_not_timed_again_when_the_start_was_killed(tmp_path: Path) -> None:
    timed: list[int] = []

    def time_batch(batch: int) -> float:
        timed.append(batch)
        if len(timed) == 3:
            raise KeyboardInterrupt
        return batch * (0.5 if batch == 16 else 1.0)

    with pytest.raises(KeyboardInterrupt):
        choose_batch(time_batch, None, Memory(tmp_path / "layers.json"), "batch")
    assert choose_batch(time_batch, None, Memory(tmp_path / "layers.json"), "batch") == 16
    assert timed == [32, 16, 8, 8, 48, 64, 96]


def test_layers_are_timed_at_the_next_start_when_the_time_is_spent_before(tmp_path: Path) -> None:
    clock, bench, memory = Clock(), FakeBench(), Memory(tmp_path / "layers.json")
    fused = fuse(Block().eval().to(memory_format=torch.channels_last), bench.watch())
    step = bench.time

    def time(each: Callable[[], object]) -> float:
        clock.now_s += 10.0
        return step(each)

    bench.time = time  # type: ignore[method-assign]
    choose_forms(fused, IMAGES, bench, memory, Budget(15.0, clock))
    assert forms_of(fused) == ["convolution", "plain", "plain"]
    again = FakeBench()
    assert forms_of(choose(again, tmp_path / "layers.json")) == ["convolution"] * 3
    assert again.timed == ["plain", "convolution", "product", "plain", "convolution"]


@pytest.mark.parametrize(("operator", "is_remembered"), [(fail, False), (swallow, True)])
def test_form_that_failed_is_tried_again_at_the_next_start_and_a_wrong_one_is_not(
    tmp_path: Path, operator: Callable[..., Tensor], is_remembered: bool
) -> None:
    path = tmp_path / "layers.json"
    assert forms_of(choose(FakeBench(), path, replace(REFERENCE, convolve_relu=operator)))[0] == "plain"
    again = forms_of(choose(FakeBench(), path))
    assert again[0] == ("plain" if is_remembered else "convolution")
