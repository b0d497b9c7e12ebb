"""Normalisation of the layers' distances by what good tiles show."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inspector.model import ReverseDistillation
from inspector.model.anomaly_map import STRIDES, AnomalyMapGenerator, compute_distances, compute_normalisation
from inspector.model.checkpoint import load_weights, save_weights

SIZE = (64, 96)


def random_features(seed: int, count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, 5, SIZE[0] // s, SIZE[1] // s, generator=generator) for s in STRIDES]


def test_normalisation_is_mean_and_deviation_over_all_tiles_when_they_come_in_batches() -> None:
    batches = [compute_distances(random_features(n, n + 1), random_features(n + 10, n + 1)) for n in range(4)]
    expected, deviations = compute_normalisation(batches)
    for layer in range(3):
        tiles = torch.cat([batch[layer] for batch in batches]).double()
        assert len(tiles) == 10
        torch.testing.assert_close(expected[layer], tiles.mean(0))
        torch.testing.assert_close(deviations[layer], tiles.std(0).mean())


def test_normalised_map_is_the_sum_of_deviations_when_unsmoothed() -> None:
    plain = AnomalyMapGenerator(SIZE, sigma=0)
    normalised = AnomalyMapGenerator(SIZE, sigma=0, map_normalisation="position")
    teacher, student = random_features(1), random_features(2)
    torch.testing.assert_close(normalised(teacher, student), plain(teacher, student))  # nothing was set yet
    expected = [torch.full((SIZE[0] // s, SIZE[1] // s), 0.1 * s) for s in STRIDES]
    normalised.set_normalisation(expected, torch.tensor([1.0, 2.0, 4.0]))
    ones = [torch.ones(1, 1, *values.shape) for values in expected]
    # Student and teacher opposite: a distance of 2 everywhere.
    wanted = (2 - 0.4) / 1 + (2 - 0.8) / 2 + (2 - 1.6) / 4
    opposite = normalised(ones, [-one for one in ones])
    torch.testing.assert_close(opposite, torch.full_like(opposite, wanted))
    # As good as it gets: below what good tiles show.
    torch.testing.assert_close(normalised(ones, ones), torch.full_like(opposite, -0.4 - 0.4 - 0.4))


def test_place_where_good_tiles_err_no_longer_stands_out_when_normalised() -> None:
    torch.manual_seed(0)
    model = ReverseDistillation("resnet18", SIZE, pre_trained=False, map_normalisation="position").eval()
    model.fit_normalisation(torch.randn(8, 3, *SIZE) for _ in range(8))
    maps = torch.cat([model(torch.randn(8, 3, *SIZE)) for _ in range(8)])
    assert maps.mean().abs() < 0.5  # deviations
    assert maps.mean(0).abs().max() < 1.5


def test_normalisation_travels_with_the_weights_when_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ReverseDistillation("resnet18", SIZE, pre_trained=False, map_normalisation="position").eval()
    model.fit_normalisation([torch.randn(4, 3, *SIZE)])
    path = tmp_path / "w.safetensors"
    save_weights(model, path)
    again = ReverseDistillation("resnet18", SIZE, pre_trained=False, map_normalisation="position").eval()
    load_weights(again, path.read_bytes(), path)
    images = torch.randn(1, 3, *SIZE)
    assert torch.equal(model(images), again(images))
    assert not any("expected" in name for name in ReverseDistillation("resnet18", SIZE, pre_trained=False).state_dict())


def test_normalisation_is_refused_when_maps_are_multiplied() -> None:
    with pytest.raises(ValueError, match="map_normalisation: must be none with anomaly_map_mode multiply"):
        AnomalyMapGenerator(SIZE, "multiply", map_normalisation="position")


def test_normalisation_is_refused_when_there_are_too_few_tiles() -> None:
    with pytest.raises(ValueError, match="at least 2 tiles are needed, got 1"):
        compute_normalisation([compute_distances(random_features(1, 1), random_features(2, 1))])
