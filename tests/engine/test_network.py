"""The network as it runs on the line computes the model's own function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from inspector.engine.network import DistanceNetwork, MapNetwork, compare
from inspector.model import ReverseDistillation
from inspector.model.anomaly_map import STRIDES, AnomalyMapGenerator

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
KINDS = [("add", "none"), ("multiply", "none"), ("add", "position")]

MakeModel = Callable[..., ReverseDistillation]


def normalise(tiles: torch.Tensor) -> torch.Tensor:
    return (tiles.float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def random_tiles(height: int, width: int, count: int = 2, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("sigma", [0, 2])
@pytest.mark.parametrize("size", [(64, 64), (64, 96), (96, 64)])
@pytest.mark.parametrize(("mode", "normalisation"), KINDS)
def test_maps_equal_the_models_when_run_as_two_networks(
    make_model: MakeModel, mode: str, normalisation: str, size: tuple[int, int], sigma: int
) -> None:
    model = make_model(input_size=size, sigma=sigma, anomaly_map_mode=mode, map_normalisation=normalisation)
    if normalisation == "position":
        model.fit_normalisation([normalise(random_tiles(*size, count=4, seed=9))])
    tiles = random_tiles(*size)
    with torch.inference_mode():
        expected = model(normalise(tiles))[:, 0]
        found = MapNetwork(model.anomaly_map)(*DistanceNetwork(model, MEAN, STD)(tiles))
    assert float(expected.std()) > 1e-3  # a flat map would prove nothing
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)


def test_maps_equal_the_models_when_its_student_is_light(make_model: MakeModel) -> None:
    model, tiles = make_model(student="light"), random_tiles(64, 64)
    with torch.inference_mode():
        expected = model(normalise(tiles))[:, 0]
        found = MapNetwork(model.anomaly_map)(*DistanceNetwork(model, MEAN, STD)(tiles))
    assert float(expected.std()) > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("sigma", [0, 2])
@pytest.mark.parametrize(("mode", "normalisation"), KINDS)
def test_maps_equal_the_generators_when_distances_are_extreme(mode: str, normalisation: str, sigma: int) -> None:
    size = (64, 96)
    generator = AnomalyMapGenerator(size, mode, sigma, normalisation)
    torch.manual_seed(5)
    if normalisation == "position":
        expected = [torch.rand(size[0] // stride, size[1] // stride) for stride in STRIDES]
        generator.set_normalisation(expected, torch.tensor([0.5, 0.05, 0.2]))
    teacher = [torch.randn(2, 5, size[0] // stride, size[1] // stride) for stride in STRIDES]
    student = [torch.where(torch.rand_like(features) < 0.5, features, -features) for features in teacher]
    wanted = generator(teacher, student)[:, 0]
    found = MapNetwork(generator)(*(compare(t, s) for t, s in zip(teacher, student, strict=True)))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


def test_distance_is_that_of_cosine_similarity_when_features_are_random() -> None:
    torch.manual_seed(6)
    teacher, student = torch.randn(2, 7, 4, 5), torch.randn(2, 7, 4, 5)
    torch.testing.assert_close(compare(teacher, student), 1 - F.cosine_similarity(teacher, student, dim=1))


@pytest.mark.parametrize("zero", ["teacher", "student", "both"])
def test_distance_is_1_when_features_are_all_zero(zero: str) -> None:
    features = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(7))
    none = torch.zeros_like(features)
    pairs = {"teacher": (none, features), "student": (features, none), "both": (none, none)}
    assert torch.equal(compare(*pairs[zero]), torch.ones(1, 3, 3))


def test_distances_are_float32_when_features_are_bfloat16(model: ReverseDistillation) -> None:
    tiles = random_tiles(64, 64)
    with torch.inference_mode():
        exact = DistanceNetwork(model, MEAN, STD)(tiles)
        found = DistanceNetwork(model, MEAN, STD, torch.bfloat16)(tiles)
    for one, other in zip(found, exact, strict=True):
        assert one.dtype == torch.float32
        assert 0 < float((one - other).abs().max()) < 0.05  # another precision, the same thing
    assert next(model.parameters()).dtype == torch.float32


@pytest.mark.parametrize("at", [(0, 0, 0), (1, 31, 40), (2, 63, 63)])
def test_map_is_nan_when_a_pixel_is(model: ReverseDistillation, at: Any) -> None:
    tiles = random_tiles(64, 64).float()
    tiles[0][at] = torch.nan
    with torch.inference_mode():
        maps = MapNetwork(model.anomaly_map)(*DistanceNetwork(model, MEAN, STD)(tiles))
    assert bool(maps[0].isnan().any())
    assert bool(maps[1].isfinite().all())


def test_model_trains_on_when_it_was_taken_over(make_model: MakeModel) -> None:
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    network = DistanceNetwork(model.train(), MEAN, STD)
    assert model.training
    assert not any(part.training for part in network.children())
    assert all(parameter.requires_grad for parameter in model.trained_parameters())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
