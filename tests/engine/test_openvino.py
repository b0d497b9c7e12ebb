"""The CPU engine against the reference, in each precision and on any number of cores."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from inspector.engine import openvino
from inspector.engine.base import Precision, has_bf16
from inspector.engine.eager import EagerEngine
from inspector.engine.openvino import DISTANCES, MAP, OpenVinoEngine
from inspector.model import ReverseDistillation

MakeOpenVino = Callable[..., OpenVinoEngine]
MakeTiles = Callable[..., Tensor]
Infer = Callable[..., Tensor]
Reference = Callable[[Tensor], Tensor]

needs_bf16 = pytest.mark.skipif(not has_bf16(), reason="this CPU has no bfloat16")
needs_nncf = pytest.mark.skipif(
    importlib.util.find_spec("nncf") is None, reason="NNCF is not installed: install the int8 extra"
)
PRECISIONS = [Precision.FP32, pytest.param(Precision.BF16, marks=needs_bf16)]


def measure_error(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the expected maps' range."""
    return float((found - expected).abs().max() / (expected.max() - expected.min()))


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_maps_equal_the_references_when_in_fp32(
    monkeypatch: pytest.MonkeyPatch,
    make_openvino: MakeOpenVino,
    make_tiles: MakeTiles,
    reference: Reference,
    cores: int,
) -> None:
    monkeypatch.setattr(openvino, "count_cores", lambda: cores)
    engine, tiles = make_openvino(), make_tiles(8)
    assert (engine.precision, engine.tiles.dtype, engine.name[-9:]) == ("fp32", torch.uint8, f"{cores} threads")
    expected = reference(tiles)
    for count in (8, 1, 2, 3, 5, 7):
        engine.tiles.copy_(make_tiles(8, seed=count + 1))  # what an earlier batch left in the other places
        engine.tiles[:count] = tiles[:count]
        maps = engine.infer(count)
        assert maps.dtype == torch.float32
        torch.testing.assert_close(maps, expected[:count], rtol=0, atol=1e-4)


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_batch_is_four_per_core_when_none_is_given(
    monkeypatch: pytest.MonkeyPatch, make_openvino: MakeOpenVino, cores: int
) -> None:
    monkeypatch.setattr(openvino, "count_cores", lambda: cores)
    assert len(make_openvino(batch=None).tiles) == 4 * cores


def test_cores_are_those_of_the_affinity_when_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 5, 6})
    assert openvino.count_cores() == 3


@needs_bf16
@pytest.mark.parametrize("cores", [1, 2, 4])
def test_maps_are_near_the_references_when_in_bf16(
    monkeypatch: pytest.MonkeyPatch,
    make_openvino: MakeOpenVino,
    make_tiles: MakeTiles,
    reference: Reference,
    cores: int,
) -> None:
    monkeypatch.setattr(openvino, "count_cores", lambda: cores)
    engine, tiles = make_openvino(Precision.BF16), make_tiles(8)
    expected = reference(tiles)
    for count in (8, 1, 3):
        engine.tiles[:count] = tiles[:count]
        maps = engine.infer(count)
        assert 1e-4 < measure_error(maps, expected[:count]) < 0.05  # above: it is bfloat16


@needs_bf16
def test_map_has_all_its_digits_when_in_bf16(make_openvino: MakeOpenVino, make_tiles: MakeTiles, infer: Infer) -> None:
    maps = infer(make_openvino(Precision.BF16), make_tiles(2))
    assert not torch.equal(maps, maps.bfloat16().float())
    assert len(maps.unique()) > 1000  # bfloat16 has 128 values from 1 to 2


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_maps_are_the_same_when_graphs_are_written_and_read(
    make_openvino: MakeOpenVino, graphs: Any, make_tiles: MakeTiles, infer: Infer, tmp_path: Path, precision: Precision
) -> None:
    openvino.write(graphs, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{name}.{kind}" for name in (DISTANCES, MAP) for kind in ("bin", "xml")
    ]
    tiles = make_tiles(3)
    again = make_openvino(precision, of=openvino.read(read_files(tmp_path)))
    torch.testing.assert_close(infer(again, tiles), infer(make_openvino(precision), tiles), rtol=0, atol=1e-5)


def test_maps_stay_the_same_when_the_files_read_are_overwritten(
    make_openvino: MakeOpenVino, make_tiles: MakeTiles, graphs: Any, infer: Infer, tmp_path: Path
) -> None:
    openvino.write(graphs, tmp_path)
    engine, tiles = make_openvino(of=openvino.read(read_files(tmp_path))), make_tiles(3)
    before = infer(engine, tiles).clone()
    for path in tmp_path.glob("*.bin"):
        with path.open("r+b") as file:  # the same file, as `cp` writes over it
            file.write(bytes(path.stat().st_size))
    torch.testing.assert_close(infer(engine, tiles), before, rtol=0, atol=0)


def test_graphs_are_refused_when_missing_or_torn(graphs: Any, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        openvino.read(read_files(tmp_path))
    openvino.write(graphs, tmp_path)
    path = tmp_path / f"{DISTANCES}.xml"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RuntimeError):
        openvino.read(read_files(tmp_path))


@pytest.mark.parametrize("cores", [1, 4])
def test_maps_equal_the_references_when_tiles_are_floats(
    monkeypatch: pytest.MonkeyPatch,
    make_openvino: MakeOpenVino,
    float_graphs: Any,
    make_tiles: MakeTiles,
    infer: Infer,
    reference: Reference,
    cores: int,
) -> None:
    monkeypatch.setattr(openvino, "count_cores", lambda: cores)
    engine = make_openvino(of=float_graphs, dtype=torch.float32)
    tiles = make_tiles(3, dtype=torch.float32) * 0.999 + 0.1  # not whole numbers
    torch.testing.assert_close(infer(engine, tiles), reference(tiles), rtol=0, atol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_map_is_nan_when_a_pixel_is_not_finite(
    make_openvino: MakeOpenVino, float_graphs: Any, make_tiles: MakeTiles, precision: Precision, value: float
) -> None:
    engine = make_openvino(precision, of=float_graphs, dtype=torch.float32)
    clean = make_tiles(8, dtype=torch.float32)
    for at in ((0, 0, 0), (1, 20, 33), (2, 63, 63), (slice(None),) * 3):
        for count in (1, 8):  # on one stream, on all
            engine.tiles.copy_(clean)
            engine.tiles[(count - 1, *at)] = value
            maps = engine.infer(count)
            assert bool(maps[-1].isnan().all())
            assert bool(maps[:-1].isfinite().all())
    engine.tiles.copy_(clean)
    assert bool(engine.infer(8).isfinite().all())  # nothing of it stays


def test_batch_is_half_when_halved_and_1_stays_1(
    make_openvino: MakeOpenVino, make_tiles: MakeTiles, infer: Infer, reference: Reference
) -> None:
    engine, tiles = make_openvino(batch=5), make_tiles(5)
    expected = reference(tiles)
    for count in (2, 1, 1):
        engine.halve_batch()
        assert len(engine.tiles) == count
        torch.testing.assert_close(infer(engine, tiles[:count]), expected[:count], rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def quantised(graphs: Any, make_tiles: MakeTiles) -> Any:
    tiles = make_tiles(8, seed=20).permute(0, 2, 3, 1).contiguous().numpy()
    return graphs | {DISTANCES: openvino.quantise(graphs[DISTANCES], tiles)}


def count_operations(graph: Any, kind: str) -> int:
    return sum(node.get_type_name() == kind for node in graph.get_ops())


@needs_nncf
def test_maps_are_near_the_references_when_in_int8(
    make_openvino: MakeOpenVino, quantised: Any, make_tiles: MakeTiles, infer: Infer, reference: Reference
) -> None:
    tiles = make_tiles(4)
    maps = infer(make_openvino(Precision.INT8, of=quantised), tiles)
    assert bool(maps.isfinite().all())
    assert 1e-3 < measure_error(maps, reference(tiles)) < 0.25
    correlation = torch.corrcoef(torch.stack([maps.flatten(), reference(tiles).flatten()]))[0, 1]
    assert float(correlation) > 0.95


@needs_nncf
def test_convolutions_are_int8_and_the_comparison_computes_in_float_when_quantised(graphs: Any, quantised: Any) -> None:
    graph = quantised[DISTANCES]
    convolutions = count_operations(graph, "Convolution") + count_operations(graph, "ConvolutionBackpropData")
    assert count_operations(graphs[DISTANCES], "FakeQuantize") == 0  # the original is untouched
    assert count_operations(graph, "FakeQuantize") > convolutions > 20
    assert count_fed_by_int8(graph, {"ReduceSum", "ReduceL2", "Divide", "Subtract", "Sqrt", "Clamp", "Maximum"}) == 0


@needs_nncf
def test_comparison_reads_the_bytes_that_convolutions_read_when_quantised(quantised: Any) -> None:
    # Three features of the encoder, and the two of the decoder that its next stage reads: as a product and a square.
    assert count_fed_by_int8(quantised[DISTANCES], {"Multiply", "Power"}) == 2 * 5
    relus = [node for node in quantised[DISTANCES].get_ordered_ops() if node.get_type_name() == "Relu"]
    both = [kinds for node in relus if "FakeQuantize" in (kinds := list_readers(node)) and "Power" in kinds]
    assert not both


def list_readers(node: Any) -> list[str]:
    return [reader.get_node().get_type_name() for reader in node.output(0).get_target_inputs()]


def count_fed_by_int8(graph: Any, kinds: set[str]) -> int:
    comparisons = [node for node in graph.get_ordered_ops() if node.get_type_name() in kinds]
    assert len(comparisons) >= 6  # three layers
    inputs = [node.input_value(index).get_node() for node in comparisons for index in range(node.get_input_size())]
    return sum(node.get_type_name() == "FakeQuantize" for node in inputs)


@pytest.fixture(scope="module")
def light(make_model: Callable[..., ReverseDistillation]) -> ReverseDistillation:
    return make_model(student="light")


@pytest.mark.parametrize(
    ("precision", "least", "most"),
    [
        (Precision.FP32, 0.0, 1e-4),
        pytest.param(Precision.BF16, 1e-4, 0.05, marks=needs_bf16),
        pytest.param(Precision.INT8, 1e-3, 0.25, marks=needs_nncf),
    ],
)
def test_maps_are_near_the_references_when_the_student_is_light(
    make_openvino: MakeOpenVino,
    make_eager: Callable[..., EagerEngine],
    convert: Callable[[ReverseDistillation], Any],
    light: ReverseDistillation,
    make_tiles: MakeTiles,
    infer: Infer,
    precision: Precision,
    least: float,
    most: float,
) -> None:
    tiles, of = make_tiles(4), convert(light)
    if precision is Precision.INT8:
        pixels = make_tiles(8, seed=20).permute(0, 2, 3, 1).contiguous().numpy()
        of[DISTANCES] = openvino.quantise(of[DISTANCES], pixels)
    maps = infer(make_openvino(precision, of=of), tiles)
    assert least <= measure_error(maps, infer(make_eager(network=light), tiles)) < most


def test_nothing_is_reported_to_its_maker_when_openvino_is_used() -> None:
    code = (
        "import inspector, openvino.tools.ovc as ovc, sys\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
        "print(type(ovc.telemetry).__module__)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub"


def test_signals_are_handled_when_engines_are_dropped_in_the_order_they_were_made(graphs: Any, tmp_path: Path) -> None:
    openvino.write(graphs, tmp_path)
    code = (
        "import gc, pathlib, signal, torch\n"
        "from inspector.engine import openvino\n"
        "graphs = openvino.read({path.name: path.read_bytes() for path in pathlib.Path(sys.argv[1]).iterdir()})\n"
        "build = lambda: openvino.OpenVinoEngine(graphs, 'fp32', side=64, dtype=torch.uint8, batch=1)\n"
        "engines = [build(), build()]\n"
        "del engines[0]; gc.collect(); engines.clear(); gc.collect()\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('handled'))\n"
        "signal.raise_signal(signal.SIGUSR1)"
    )
    command = [sys.executable, "-X", "faulthandler", "-W", "ignore", "-c", "import sys\n" + code, str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
