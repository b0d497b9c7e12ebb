"""What the machine gives: its own matrix-product rate, and how much memory a process takes."""

from __future__ import annotations

import copy
import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openvino as ov
import torch
from _methods import PEER, Case, Ours, Peer, build_engine, build_recipe, make_frames
from torch.utils.flop_counter import FlopCounterMode

from inspector.config import Threshold
from inspector.engine.base import Precision
from inspector.engine.openvino import CORE, count_cores
from inspector.model import ReverseDistillation

_SCRIPT = Path(__file__).with_name("throughput.py")
_REPEATS = 10
_SIDE_CPU = 2048
_SIDE_CUDA = 8192


def count_flops(model: ReverseDistillation, tile: int) -> int:
    """Floating-point operations of the network on one tile, two per multiply-add; distances and map left out."""
    with FlopCounterMode(display=False) as counter:
        copy.deepcopy(model).to("meta").features(torch.zeros(1, 3, tile, tile, device="meta"))
    return int(counter.get_total_flops())


def measure_matmul(device: torch.device, precision: Precision) -> float | None:
    """Operations per second of one large matrix product in `precision`; None where torch has none here.

    Float32 on CUDA is measured as convolutions run there by default: in TF32. On a CPU the faster of torch and
    OpenVINO counts, since torch's library does not use all that every maker's CPU has.
    """
    if device.type == "cpu" and precision is Precision.INT8 and not has_int8():
        return None  # torch emulates it: what is measured is a hundredth of what OpenVINO's own kernels do
    side = _SIDE_CPU if device.type == "cpu" else _SIDE_CUDA
    try:
        seconds = _time_matmul(device, precision, side)
    except RuntimeError:
        return None
    if device.type == "cpu" and precision is not Precision.INT8:
        seconds = min(seconds, _time_openvino_matmul(precision, side))
    return 2 * side**3 / seconds


def has_int8(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this x86 CPU multiplies bytes by itself (VNNI or AMX)."""
    text = cpuinfo.read_text(encoding="ascii", errors="replace")
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return not {"avx512_vnni", "avx_vnni", "amx_int8"}.isdisjoint(flags)


def _time_openvino_matmul(precision: Precision, side: int) -> float:
    product = torch.nn.Linear(side, side, bias=False).eval()
    rows = torch.randn(side, side)
    graph = ov.convert_model(torch.export.export(product, (rows,)))
    hint = {Precision.FP32: "f32", Precision.BF16: "bf16"}[precision]
    options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": count_cores(), "NUM_STREAMS": 1}
    request = CORE.compile_model(graph, "CPU", options).create_infer_request()
    content = rows.numpy()
    run = functools.partial(request.infer, [content], share_inputs=True, share_outputs=True)
    return min(_time(run, torch.device("cpu")) for _ in range(_REPEATS))


def _time_matmul(device: torch.device, precision: Precision, side: int) -> float:
    multiply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = torch.matmul
    if precision is Precision.INT8:
        left, right = (torch.randint(-128, 127, (side, side), dtype=torch.int8, device=device) for _ in range(2))
        multiply = torch._int_mm
    else:
        dtype = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}[
            precision
        ]
        left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        return min(_time(lambda: multiply(left, right), device) for _ in range(_REPEATS))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _time(run: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_memory(case: Case, name: str, frames: int) -> dict[str, float | None]:
    """Memory of this process, which must be fresh, while it builds one method and judges frames (MB).

    `imports_mb`: before anything is built. `peak_mb`: highest of its life, conversion and compilation included.
    `judging_mb`: highest while it judges, a frame included; None where the kernel cannot reset its mark.
    """
    _import(case, name)
    imports = _peak_mb()
    pixels = make_frames(case.frame_hw, frames, case.seed)
    recipe, model = build_recipe(case)
    # Frames pass: one that fails takes five more bytes per pixel, for a moment, to find its regions.
    recipe = recipe.model_copy(update={"threshold": Threshold(value=1e6, method="manual")})
    method: Ours | Peer
    if name == PEER:
        method = Peer(case, recipe, 1.0)
    else:
        engine, _ = build_engine(case, recipe, model, Precision(name), pixels[0])
        method = Ours(name, recipe, engine, case.frame_hw)
    del model
    built = _peak_mb()
    is_reset = _reset_peak()
    for frame in pixels:
        method.judge(frame)
    device = torch.cuda.max_memory_allocated() / 1e6 if case.device != "cpu" else None
    judging = _peak_mb()
    return {
        "imports_mb": imports,
        "peak_mb": max(built, judging),
        "judging_mb": judging if is_reset else None,
        "device_mb": device,
    }


def _import(case: Case, name: str) -> None:
    if name == PEER:
        import anomalib.models.image.reverse_distillation.torch_model  # noqa: F401
    elif case.device == "cpu":
        import openvino  # noqa: F401


def _peak_mb() -> float:
    """Highest resident memory of this process so far, or since `_reset_peak`.

    Not `getrusage`: what that calls the highest starts at what the parent process had when it started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def measure_memory_apart(case: Case, name: str, frames: int = 2) -> dict[str, Any]:
    """`measure_memory` in a process of its own; {"error": …} where that one does not live."""
    arguments = ["--only", name, "--against", "none", "--frames", str(frames), "--json", "-"]
    settings = {
        "--device": [case.device],
        "--backbone": [case.backbone],
        "--frame-hw": [str(side) for side in case.frame_hw],
        "--tile": [str(case.tile)],
        "--stride": [str(case.stride)],
        "--batch": [str(case.batch)] if case.batch else [],
        "--bottleneck": [case.width],
        "--student": [case.student],
        "--recipe": [str(case.recipe)] if case.recipe else [],
    }
    for option, values in settings.items():
        arguments += [option, *values] if values else []
    done = subprocess.run(  # noqa: S603 (this script, with numbers and names that were checked)
        [sys.executable, str(_SCRIPT), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {"error": f"exit status {done.returncode}: {done.stderr.strip()[-300:]}"}
    content: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return content
