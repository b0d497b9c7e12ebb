"""Imported recipes against the programs they come from: the same maps, from the same weights."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import Compose, Normalize, Resize

from inspector.config import Normalisation, Recipe, load_recipe
from inspector.detection.preprocessing import normalise
from inspector.errors import CheckpointError, TrainingError
from inspector.files import compute_sha256
from inspector.recipe.opening import open_detector
from inspector.training.calibrate import calibrate
from inspector.training.importing import ImportOptions, import_checkpoint

LAYERS = ["layer1", "layer2", "layer3"]
CPU = torch.device("cpu")
TILE = 64


@pytest.fixture
def folder() -> Iterator[Path]:
    """Removed with its hundreds of megabytes, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def import_anomalib(module: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(
            f"anomalib.{module}", reason="anomalib is not installed: install the bench extra", exc_type=ImportError
        )


def randomise(model: nn.Module) -> nn.Module:
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            part.weight.data.uniform_(0.5, 1.5)
            part.bias.data.normal_(0, 0.1)
    return model.eval()


def build_network(backbone: str, mode: str = "add") -> nn.Module:
    """anomalib's network alone, random."""
    module = import_anomalib("models.image.reverse_distillation.torch_model")
    torch.manual_seed(7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return randomise(module.ReverseDistillationModel(backbone, (TILE, TILE), LAYERS, mode, pre_trained=False))


def build_lightning(mode: str) -> Any:
    """anomalib's whole module, as its engine trains and exports it."""
    models = import_anomalib("models")
    module = import_anomalib("models.image.reverse_distillation.anomaly_map")
    torch.manual_seed(7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = models.ReverseDistillation(
            "resnet18",
            anomaly_map_mode=module.AnomalyMapGenerationMode(mode),
            pre_trained=False,
            pre_processor=import_anomalib("pre_processing").PreProcessor(
                transform=Compose([Resize((TILE, TILE), antialias=True), Normalize([0.5, 0.4, 0.3], [0.2, 0.25, 0.5])])
            ),
        )
    return randomise(model)


def save_checkpoint(model: Any, path: Path) -> Path:
    """What Lightning's trainer writes, but for the optimiser's state."""
    content = {
        "epoch": 1,
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "callbacks": {"ModelCheckpoint": {"best_model_path": "", "best_model_score": torch.tensor(0.5)}},
    }
    model.on_save_checkpoint(content)
    torch.save(content, path)
    return path


def assert_maps_equal(theirs: nn.Module, out: Path) -> None:
    detector = open_detector(out, device=CPU)
    image = torch.randint(0, 256, (3, TILE, TILE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(normalise(image[None], detector.recipe.preprocessing)).anomaly_map[0, 0]
    assert float(expected.std()) > 1e-4  # a flat map would prove nothing
    torch.testing.assert_close(torch.from_numpy(detector.compute_anomaly_map(image)), expected, rtol=0, atol=1e-5)


def encoder_file(theirs: nn.Module, path: Path) -> str:
    torch.save(theirs.encoder.feature_extractor.state_dict(), path)
    return str(path)


@pytest.mark.parametrize(("kind", "mode"), [("checkpoint", "multiply"), ("export", "add"), ("export", "multiply")])
def test_maps_equal_anomalibs_when_its_own_files_are_imported(folder: Path, kind: str, mode: str) -> None:
    theirs = build_lightning(mode)
    path = save_checkpoint(theirs, folder / "model.ckpt") if kind == "checkpoint" else theirs.to_torch(folder)
    recipe = import_checkpoint(path, folder / "recipe", ImportOptions(tile_size=TILE))
    assert_maps_equal(theirs.model, folder / "recipe")
    assert recipe == load_recipe(folder / "recipe")
    assert (recipe.backbone, recipe.anomaly_map_mode, recipe.sigma) == ("resnet18", mode, 4.0)
    assert recipe.preprocessing.normalisation == Normalisation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))
    assert (recipe.map_normalisation, recipe.student, recipe.threshold) == ("none", "full", None)
    assert recipe.training == {"imported_from": path.name, "format": "anomalib", "sha256": compute_sha256(path)}
    assert recipe.encoder_weights == f"{path.name} sha256:{compute_sha256(path)[:16]}"


@pytest.mark.engine
def test_maps_equal_anomalibs_when_its_narrow_bottleneck_is_imported(folder: Path) -> None:
    theirs = build_network("wide_resnet50_2")
    state = {f"model.{name}": value for name, value in theirs.state_dict().items()}
    torch.save({"state_dict": state}, folder / "wide.ckpt")
    options = ImportOptions(tile_size=TILE, anomaly_map_mode="add")
    recipe = import_checkpoint(folder / "wide.ckpt", folder / "recipe", options)
    assert (recipe.backbone, recipe.bottleneck_width) == ("wide_resnet50_2", "anomalib")
    assert_maps_equal(theirs, folder / "recipe")


def official(theirs: nn.Module) -> dict[str, dict[str, Tensor]]:
    """What RD4AD's main.py saves; anomalib's parts have its names, the dead conv4 and bn4 included."""
    return {
        "bn": theirs.bottleneck.state_dict() | {"memory_layer.weight": torch.zeros(2)},
        "decoder": theirs.decoder.state_dict(),
    }


def test_maps_equal_the_peers_when_rd4ads_file_and_an_encoder_are_imported(folder: Path) -> None:
    theirs = build_network("resnet18")
    torch.save(official(theirs), folder / "wres50_lens.pth")
    weights = encoder_file(theirs, folder / "encoder.pth")
    options = ImportOptions(tile_size=TILE, encoder_weights=weights, stride=48, short_side=96, recipe_id="lens")
    recipe = import_checkpoint(folder / "wres50_lens.pth", folder / "recipe", options)
    assert_maps_equal(theirs, folder / "recipe")
    assert (recipe.recipe_id, recipe.tiling.stride, recipe.preprocessing.short_side) == ("lens", 48, 96)
    assert (recipe.anomaly_map_mode, recipe.training["format"]) == ("add", "rd4ad")
    assert recipe.preprocessing.normalisation == Normalisation()
    assert recipe.encoder_weights == f"encoder.pth sha256:{compute_sha256(folder / 'encoder.pth')[:16]}"


@pytest.fixture(scope="module")
def anomalibs() -> Iterator[Path]:
    """A checkpoint without hyper-parameters."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model.ckpt"
        state = {f"model.{name}": value for name, value in build_network("resnet18").state_dict().items()}
        torch.save({"state_dict": state}, path)
        yield path


def test_imported_recipe_gets_a_threshold_when_calibrated(anomalibs: Path, folder: Path) -> None:
    for number in range(3):
        image = np.random.default_rng(number).integers(80, 120, (TILE, TILE, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), image)
    imported = import_checkpoint(anomalibs, folder / "r", ImportOptions(tile_size=TILE, anomaly_map_mode="add"))
    calibrated: Recipe = calibrate(folder / "r", folder, qualification=0, device="cpu")
    assert calibrated.threshold is not None
    assert calibrated.training == imported.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"--anomaly-map-mode: must be given as add or multiply, the checkpoint says None"),
        ({"encoder_weights": "pretrained"}, r"--encoder-weights: must be left out, .* got pretrained"),
        ({"backbone": "resnet50"}, r"shapes of resnet50, got others"),
    ],
)
def test_import_is_refused_and_nothing_written_when_options_do_not_fit(
    anomalibs: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"model\.ckpt: .*{message}"):
        import_checkpoint(anomalibs, tmp_path / "recipe", ImportOptions(tile_size=TILE, **options))
    assert list(tmp_path.iterdir()) == []


def test_import_is_refused_when_rd4ads_student_should_go_without_its_teacher(folder: Path) -> None:
    torch.save(official(build_network("resnet18")), folder / "rd.pth")
    with pytest.raises(CheckpointError, match=r"must be the weights its student was trained on, got none"):
        import_checkpoint(folder / "rd.pth", folder / "recipe", ImportOptions(encoder_weights="none"))


def test_import_is_refused_when_out_is_something_else(anomalibs: Path) -> None:
    with pytest.raises(TrainingError, match="--out: must be a new folder or a recipe to replace"):
        import_checkpoint(anomalibs, anomalibs.parent, ImportOptions())
