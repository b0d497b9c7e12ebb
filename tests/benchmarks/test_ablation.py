"""The study of other maps: what is compared, and how sure it is."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def maps(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("_ablation_maps")


@pytest.fixture
def ablation(maps: ModuleType) -> ModuleType:
    return importlib.import_module("ablation")


def test_centres_are_each_the_farthest_from_those_before(maps: ModuleType) -> None:
    features = torch.tensor([[0.0, 0.0], [1.0, 0.0], [10.0, 0.0], [0.0, 4.0], [0.1, 0.0]])
    assert maps.choose_centres(features, 3).tolist() == [0, 2, 3]
    assert sorted(maps.choose_centres(features, 9).tolist()) == [0, 1, 2, 3, 4]


def test_line_of_a_map_stands_out_and_a_disc_of_the_same_height_less(maps: ModuleType) -> None:
    line, disc = np.zeros((2, 64, 64), dtype=np.float32)
    line[32, 12:52] = 1
    rows, columns = np.mgrid[:64, :64]
    disc[(rows - 32) ** 2 + (columns - 32) ** 2 <= 15**2] = 1
    assert maps.find_lines(np.ones((64, 64), dtype=np.float32)) == pytest.approx(0, abs=1e-5)
    assert maps.find_lines(line).argmax() // 64 == 32
    assert maps.find_lines(line)[32, 32] > 5 * maps.find_lines(disc)[32, 32]


def test_gain_is_the_difference_of_areas_and_nought_of_a_map_with_itself(ablation: ModuleType) -> None:
    kinds = ["good", "good", "crack", "crack", "hole"]
    scores = {ablation.BASE: [1.0, 3.0, 2.0, 0.0, 4.0], "other": [1.0, 3.0, 4.0, 2.0, 4.0]}
    runs = [{"kinds": kinds, "scores": scores}]
    assert ablation.compute_gain(runs, ablation.BASE) == (0, 0, 0)
    gain, low, high = ablation.compute_gain(runs, "other", "crack")
    assert gain == ablation.compute_auroc(np.array(kinds), np.array(scores["other"]), "crack") - 0.25 == 0.5
    assert low <= gain <= high
