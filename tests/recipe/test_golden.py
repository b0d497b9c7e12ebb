"""Golden frames: a recipe that errs on a known one is refused, and so is one that cannot be held against them."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from inspector.config import Golden, Recipe, Station, dump_recipe, load_recipe
from inspector.detection.detector import Detector
from inspector.engine.build import build_eager
from inspector.engine.eager import EagerEngine
from inspector.errors import DeviceFaultError, RecipeError
from inspector.files import compute_sha256
from inspector.recipe.golden import prove_golden, verify_golden
from inspector.recipe.opening import open_detector
from inspector.service.flow.judges import load_judges
from inspector.testing.station_process import bad_frame, base_config, good_frame, write_recipe
from inspector.transient import is_transient
from inspector.types import PixelFormat

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _reference_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eager instead of the device's engine, which takes seconds to convert."""

    def build(recipe: Recipe, load_model: Any, *, device: torch.device, **options: Any) -> EagerEngine:
        return build_eager(recipe, load_model(), device=device)

    monkeypatch.setattr("inspector.recipe.opening.build_engine", build)


@pytest.fixture(scope="module")
def recipe_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that tells a flat frame from a noisy one."""
    return write_recipe(tmp_path_factory.mktemp("recipes") / "tiny")


@pytest.fixture
def store(recipe_dir: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a recipe folder with the golden frames given: file name, pixels or bytes, verdict."""

    def make(*frames: tuple[str, Any, str]) -> Path:
        folder = tmp_path / "recipe"
        (folder / "golden").mkdir(parents=True)
        (folder / "weights.safetensors").symlink_to(recipe_dir / "weights.safetensors")
        stored = []
        for name, content, verdict in frames:
            path = folder / "golden" / name
            path.write_bytes(content if isinstance(content, bytes) else encode(content))
            stored.append(Golden.model_validate({"file": f"golden/{name}", "sha256": compute_sha256(path),
                                                 "verdict": verdict}))  # fmt: skip
        recipe = load_recipe(recipe_dir).model_copy(update={"golden": tuple(stored)})
        (folder / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
        return folder

    return make


def encode(pixels: Any) -> bytes:
    """A PNG of RGB or grey pixels, which OpenCV wants as BGR."""
    return cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes()


def refusal(folder: Path, detector: Detector | None = None) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        prove_golden(detector or open_detector(folder, device=CPU), folder)
    return str(caught.value).split("\n")


def test_recipe_is_proved_when_each_golden_frame_gets_its_verdict(store: Callable[..., Path]) -> None:
    folder = store(("good-1.png", good_frame(), "PASS"), ("bad-1.png", bad_frame(), "FAIL"))
    verify_golden(load_recipe(folder), folder)
    prove_golden(open_detector(folder, device=CPU), folder)


def test_recipe_is_proved_when_it_has_no_golden_frames(store: Callable[..., Path]) -> None:
    folder = store()
    prove_golden(open_detector(folder, device=CPU), folder)


def test_each_golden_frame_with_another_verdict_is_named_with_score_and_threshold(store: Callable[..., Path]) -> None:
    folder = store(("a.png", good_frame(), "FAIL"), ("b.png", good_frame(), "PASS"), ("c.png", bad_frame(), "PASS"))
    detector = open_detector(folder, device=CPU)
    assert detector.recipe.threshold is not None
    threshold = f"threshold {detector.recipe.threshold.value:.6g}"
    low, high = (detector.judge(frame, PixelFormat.RGB8).decision.score for frame in (good_frame(), bad_frame()))
    assert refusal(folder, detector) == [
        f"{folder}/golden/a.png: golden frame: must be judged FAIL, got PASS: score {low:.6g}, {threshold}",
        f"{folder}/golden/c.png: golden frame: must be judged PASS, got FAIL: score {high:.6g}, {threshold}",
    ]


@pytest.mark.parametrize("altered", [True, False])
def test_golden_frame_is_named_when_its_file_is_altered_or_gone(store: Callable[..., Path], altered: bool) -> None:
    folder = store(("good-1.png", good_frame(), "PASS"), ("bad-1.png", bad_frame(), "FAIL"))
    path = folder / "golden/bad-1.png"
    path.write_bytes(path.read_bytes() + b"\0") if altered else path.unlink()
    rule = f"{path}: {'altered: sha256 must be' if altered else 'cannot be read'}"
    with pytest.raises(RecipeError, match=re.escape(rule)):
        verify_golden(load_recipe(folder), folder)
    (message,) = refusal(folder)
    assert message.startswith(rule)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"no image", "image: must be JPEG, PNG, TIFF, WebP, BMP or PNM"),
        (b"\x89PNG\r\n\x1a\n" * 40, "image: must be a complete PNG"),
        (good_frame()[:-1], r"frame_hw: the recipe expects \(128, 160\), got \(127, 160\)"),
        (good_frame()[..., 0], "pixel_format: the recipe expects RGB8, got Mono8"),
    ],
)
@pytest.mark.parametrize("verdict", ["PASS", "FAIL"])
def test_recipe_is_refused_when_a_golden_frame_is_not_a_frame_for_it(
    store: Callable[..., Path], content: Any, why: str, verdict: str
) -> None:
    folder = store(("a.png", content, verdict))
    with pytest.raises(
        RecipeError, match=f"a.png: golden frame: must be judged {verdict}, but cannot be judged: .*{why}"
    ):
        prove_golden(open_detector(folder, device=CPU), folder)


@pytest.mark.parametrize("verdict", ["PASS", "FAIL"])
def test_recipe_is_refused_when_the_map_of_a_golden_frame_is_not_finite(
    store: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, verdict: str
) -> None:
    folder = store(("a.png", good_frame(), verdict))
    detector = open_detector(folder, device=CPU)
    infer = detector.engine.infer
    monkeypatch.setattr(detector.engine, "infer", lambda count: infer(count) * np.nan)
    (message,) = refusal(folder, detector)
    assert "cannot be judged: anomaly map: all 20480 values must be finite, but 20480 are not" in message


@pytest.mark.parametrize("error", [cv2.error("resize"), AssertionError("odd")])
def test_recipe_is_refused_when_the_detector_raises_anything_on_a_golden_frame(
    store: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    folder = store(("a.png", good_frame(), "PASS"), ("b.png", good_frame(), "PASS"))
    detector = open_detector(folder, device=CPU)
    monkeypatch.setattr(detector, "judge", lambda *_, **__: (each for each in ()).throw(error))
    first, second = refusal(folder, detector)
    assert first.endswith(f"a.png: golden frame: must be judged PASS, but cannot be judged: {error}")
    assert "b.png" in second


def test_recipe_is_refused_when_it_has_no_threshold(store: Callable[..., Path]) -> None:
    folder = store(("a.png", good_frame(), "PASS"))
    recipe = load_recipe(folder).model_copy(update={"threshold": None})
    (message,) = refusal(folder, open_detector(folder, device=CPU, recipe=recipe))
    assert "threshold: must be set" in message


def test_golden_frame_that_the_disk_does_not_give_for_now_may_be_there_later(
    store: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store(("a.png", good_frame(), "FAIL"), ("b.png", good_frame(), "PASS"))
    detector, read = open_detector(folder, device=CPU), Path.read_bytes

    def refuse(self: Path) -> bytes:
        if self.name == "b.png":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(self)

    with pytest.raises(RecipeError) as caught:
        prove_golden(detector, folder)
    assert not is_transient(caught.value)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(RecipeError, match=r"b\.png: cannot be read: .*Errno 5") as caught:
        prove_golden(detector, folder)
    assert is_transient(caught.value)


def test_device_fault_passes_through_when_the_device_fails_on_a_golden_frame(
    store: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store(("a.png", good_frame(), "PASS"))
    detector = open_detector(folder, device=CPU)

    def fail(count: int) -> None:
        raise RuntimeError("illegal memory access")

    monkeypatch.setattr(detector.engine, "infer", fail)
    with pytest.raises(DeviceFaultError, match="illegal memory access"):
        prove_golden(detector, folder)


def test_daemon_takes_no_recipe_that_errs_on_a_golden_frame(store: Callable[..., Path], tmp_path: Path) -> None:
    folder = store(("good-1.png", good_frame(), "PASS"), ("bad-1.png", good_frame(), "FAIL"))
    station = Station.model_validate(base_config(folder))
    with pytest.raises(RecipeError, match=r"^cameras\.top\.recipe: .*bad-1\.png: golden frame: .* got PASS") as caught:
        load_judges(station, tmp_path)
    assert caught.value.field == ("cameras", "top", "recipe")
