"""`inspector import`: what it prints and how it ends."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from inspector.config import load_recipe
from inspector.model import ReverseDistillation

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


class Malicious:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.trace}",)


def test_recipe_is_written_and_calibrate_named_when_a_checkpoint_is_imported(run: Run, folder: Path) -> None:
    network = ReverseDistillation("resnet18", (64, 64), pre_trained=False, sigma=2.0)
    torch.save({"bn": network.bottleneck.state_dict(), "decoder": network.decoder.state_dict()}, folder / "rd.pth")
    torch.save(network.encoder.feature_extractor.state_dict(), folder / "encoder.pth")
    status, printed = run(
        *("import", folder / "rd.pth", "--out", folder / "lens", "--format", "rd4ad"),
        *("--encoder-weights", folder / "encoder.pth", "--tile-size", 64, "--anomaly-map-mode", "multiply"),
        *("--pixel-format", "Mono16", "--mono16-range", 10, 4095, "--short-side", 96),
    )
    assert status == 0
    assert "imported: from rd.pth (rd4ad), sha256 " in printed
    assert f"no threshold yet; next, run `inspector calibrate {folder / 'lens'} GOOD_DIR`" in printed
    recipe = load_recipe(folder / "lens")
    assert (recipe.recipe_id, recipe.anomaly_map_mode, recipe.tiling.tile_size) == ("lens", "multiply", 64)
    assert (recipe.preprocessing.pixel_format, recipe.preprocessing.mono16_range) == ("Mono16", (10, 4095))
    assert recipe.preprocessing.short_side == 96


def test_import_ends_with_1_and_runs_nothing_when_the_file_is_malicious(run: Run, tmp_path: Path) -> None:
    trace, path = tmp_path / "executed", tmp_path / "evil.ckpt"
    torch.save({"state_dict": {"model.bottleneck.conv1.weight": torch.ones(1)}, "loops": Malicious(trace)}, path)
    status, printed = run("import", path, "--out", tmp_path / "recipe")
    assert status == 1
    assert f"inspector: {path}: must contain only tensors" in printed
    assert "names posix.system; nothing of it was executed" in printed
    assert [entry.name for entry in tmp_path.iterdir()] == ["evil.ckpt"]
