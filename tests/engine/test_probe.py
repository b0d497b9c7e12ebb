"""The probe: kept unaltered, and an honest measure of how far an engine is from the reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from inspector.engine.base import Precision, allocate_tiles
from inspector.engine.eager import EagerEngine
from inspector.engine.probe import MAX_SHIFT, Probe, dump_probe, load_probe, score_tiles
from inspector.errors import RecipeError
from inspector.files import compute_sha256

CPU = torch.device("cpu")


class Stub:
    """An engine whose maps are the tiles' first channel, times `gain`; `poison` is put into tile 1 of each batch."""

    name = "stub"
    device = CPU
    precision = Precision.FP32
    pays_for_full_batch = False
    frames_in_flight = 1
    brings_own_threads = False

    def __init__(self, gain: float = 1.0, poison: float | None = None, batch: int = 4) -> None:
        self.tiles = allocate_tiles(batch, 64, torch.uint8, CPU)
        self._gain = gain
        self._poison = poison

    def infer(self, count: int) -> Tensor:
        maps = self.tiles[:count, 0].float() * self._gain
        if self._poison is not None:
            maps[1, 3, 4] = self._poison
        return maps

    def halve_batch(self) -> None:
        raise NotImplementedError


@pytest.fixture
def probe(make_tiles: Callable[..., Tensor]) -> Probe:
    """Six tiles, and the stub's scores: the highest is 200."""
    tiles = make_tiles(6) // 2
    for number, score in enumerate((200, 150, 180, 190, 170, 160)):
        tiles[number, 0, 5, 6] = score
    scores = tiles[:, 0].float().amax(dim=(1, 2))
    return Probe(tiles, scores, scores * 0.99)


@pytest.fixture
def path(tmp_path: Path, probe: Probe) -> Path:
    """The probe's file."""
    (tmp_path / "probe.safetensors").write_bytes(dump_probe(probe))
    return tmp_path / "probe.safetensors"


def test_probe_is_the_same_when_saved_and_loaded(path: Path, probe: Probe) -> None:
    again = load_probe(path, compute_sha256(path))
    assert again.tiles.dtype == torch.uint8
    for name in ("tiles", "reference", "calibrated"):
        assert torch.equal(getattr(again, name), getattr(probe, name))


def test_probe_is_the_same_when_its_tiles_are_channels_last(path: Path, probe: Probe) -> None:
    strange = probe.tiles.to(memory_format=torch.channels_last)
    path.write_bytes(dump_probe(Probe(strange, probe.reference, probe.calibrated)))
    assert torch.equal(load_probe(path, compute_sha256(path)).tiles, probe.tiles)


def test_probe_is_refused_when_missing_or_altered(path: Path) -> None:
    sha256 = compute_sha256(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=f"probe.safetensors: altered: sha256 must be {sha256}"):
        load_probe(path, sha256)
    path.unlink()
    with pytest.raises(RecipeError, match=r"probe\.safetensors: cannot be read"):
        load_probe(path, sha256)


def test_probe_is_refused_when_it_is_something_else(path: Path, probe: Probe) -> None:
    path.write_bytes(b"not safetensors")
    with pytest.raises(RecipeError, match="not a probe"):
        load_probe(path, compute_sha256(path))
    save_file({"tiles": probe.tiles}, path)
    with pytest.raises(RecipeError, match="not a probe: 'reference'"):
        load_probe(path, compute_sha256(path))
    for part in (slice(0, 0), slice(0, 5)):
        save_file(
            {"tiles": probe.tiles[part], "reference": probe.reference[part], "calibrated": probe.calibrated}, path
        )
        with pytest.raises(RecipeError, match="must have as many scores as tiles, and at least one"):
            load_probe(path, compute_sha256(path))


def test_scores_are_the_maps_maxima_when_tiles_come_in_batches(
    make_eager: Callable[..., EagerEngine],
    reference: Callable[[Tensor], Tensor],
    make_tiles: Callable[..., Tensor],
) -> None:
    tiles = make_tiles(7)
    scores = score_tiles(make_eager(batch=3), tiles)
    torch.testing.assert_close(scores, reference(tiles).amax(dim=(1, 2)))


def test_shift_is_0_when_the_engine_made_the_scores(
    make_eager: Callable[..., EagerEngine], make_tiles: Callable[..., Tensor]
) -> None:
    engine, tiles = make_eager(batch=3), make_tiles(5)
    scores = score_tiles(engine, tiles)
    assert Probe(tiles, scores, scores).compare(score_tiles(engine, tiles), scores) == 0


@pytest.mark.parametrize("gain", [0.5, 0.99, 1.0, 1.25])
def test_shift_is_a_share_of_the_highest_score_when_an_engine_scales(probe: Probe, gain: float) -> None:
    scores = score_tiles(Stub(gain), probe.tiles)
    assert probe.compare(scores, probe.reference) == pytest.approx(abs(gain - 1), abs=1e-6)
    assert probe.compare(scores, probe.calibrated) == pytest.approx(abs(gain - 0.99), abs=1e-6)


def test_shift_is_that_of_the_tile_that_moves_most_when_one_does(probe: Probe) -> None:
    scores = probe.reference.clone()
    scores[3] -= 20
    assert probe.compare(scores, probe.reference) == pytest.approx(20 / 200)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_shift_is_infinite_when_a_score_is_not_finite(probe: Probe, poison: float) -> None:
    assert probe.compare(score_tiles(Stub(poison=poison), probe.tiles), probe.reference) == float("inf")


def test_shift_breaks_every_limit_when_the_probes_own_scores_are_nan(probe: Probe) -> None:
    nothing = torch.full_like(probe.reference, torch.nan)
    shift = Probe(probe.tiles, nothing, nothing).compare(probe.reference, nothing)
    assert not any(shift <= limit for limit in MAX_SHIFT.values())


def test_limits_exist_when_asked_for_any_precision() -> None:
    limits: dict[Any, float] = dict(MAX_SHIFT)
    assert set(limits) == set(Precision)
    assert limits[Precision.FP32] < limits[Precision.BF16] < limits[Precision.INT8]
