"""Who judges which camera: switched between two frames, and never one that did not prove itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from inspector.config import Camera, Recipe, Station, Threshold, Tiling, load_recipe
from inspector.detection.detector import Detector
from inspector.device import Device
from inspector.errors import RecipeError
from inspector.files import compute_sha256
from inspector.recipe.network import build_model
from inspector.service.flow import judges as module
from inspector.service.flow.judges import Judge, Judges, load_judge, load_judge_aside, load_judges
from inspector.training.recipe_writer import write_recipe
from inspector.transient import is_transient

MakeJudge = Callable[..., Judge]
CPU = Device("cpu", torch.device("cpu"))
THRESHOLD = Threshold(value=100.0, method="manual")


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a recipe that any network fits, and return its folder."""

    def write(name: str, threshold: Threshold | None = THRESHOLD) -> Path:
        recipe = Recipe(
            recipe_id=name,
            backbone="resnet18",
            precision="fp32",
            tiling=Tiling(tile_size=64, stride=64),
            threshold=threshold,
            weights_sha256="0" * 64,
        )
        folder = tmp_path_factory.mktemp("recipes") / name
        write_recipe(recipe, build_model(recipe), folder)
        return folder

    return write


@pytest.fixture(scope="module")
def lens(write: Callable[..., Path]) -> Path:
    return write("lens")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What `open_detector` gives instead of a network: its recipe alone, and nothing to warm up."""
    stand_in = SimpleNamespace(warm_up=lambda: None)

    def load(folder: Path, **_: Any) -> SimpleNamespace:
        stand_in.recipe = load_recipe(folder)
        return stand_in

    monkeypatch.setattr(module, "open_detector", load)
    return stand_in


# ---------------------------------------------------------------- switching


def test_no_camera_has_a_judge_when_none_was_loaded() -> None:
    judges = Judges()
    assert (judges.are_loaded, judges.get("top"), list(judges)) == (False, None, [])


def test_judges_are_loaded_when_the_first_set_is_there_even_if_it_is_empty() -> None:
    judges = Judges()
    judges.switch({})
    assert judges.are_loaded
    assert judges.get("top") is None


def test_switch_is_seen_by_the_next_get_and_the_other_cameras_keep_theirs(make_judge: MakeJudge) -> None:
    judges, old, other, new = Judges(), make_judge(), make_judge(), make_judge()
    judges.switch({"top": old, "side": other})
    assert judges.get("top") is old
    judges.switch({"top": new})
    assert judges.get("top") is new
    assert judges.get("side") is other
    assert dict(judges) == {"top": new, "side": other}


def test_judge_that_was_got_stays_the_same_when_its_camera_is_switched(make_judge: MakeJudge) -> None:
    judges, old = Judges(), make_judge()
    judges.switch({"top": old})
    got = judges.get("top")
    before = iter(judges)
    judges.switch({"top": make_judge(), "side": make_judge()})
    assert got is old
    assert list(before) == [("top", old)]


# ---------------------------------------------------------------- loading


@pytest.mark.engine
def test_judge_names_the_recipe_it_was_loaded_from(lens: Path, tmp_path: Path) -> None:
    judge = load_judge(lens, CPU, 2, tmp_path)
    assert judge.folder == lens
    assert judge.threshold == 100.0
    assert judge.identity == {
        "recipe_id": "lens",
        "recipe_sha256": compute_sha256(lens / "recipe.yaml"),
        "model_sha256": compute_sha256(lens / "weights.safetensors"),
    }


def test_recipe_is_refused_naming_what_to_do_when_it_has_no_threshold(
    write: Callable[..., Path], tmp_path: Path, stand_in: SimpleNamespace
) -> None:
    folder = write("raw", threshold=None)
    with pytest.raises(RecipeError, match="threshold: required to judge frames; run inspector calibrate") as refused:
        load_judge(folder, CPU, 2, tmp_path)
    assert str(folder / "recipe.yaml") in str(refused.value)


def test_recipe_is_refused_when_it_is_altered_while_it_is_loaded(
    write: Callable[..., Path], tmp_path: Path, stand_in: SimpleNamespace
) -> None:
    folder = write("altered")

    def alter() -> None:
        text = (folder / "recipe.yaml").read_text(encoding="utf-8")
        (folder / "recipe.yaml").write_text(text.replace("100.0", "200.0"), encoding="utf-8")

    stand_in.warm_up = alter
    with pytest.raises(RecipeError, match=r"recipe\.yaml: changed while it was loaded") as error:
        load_judge(folder, CPU, 2, tmp_path)
    assert is_transient(error.value)  # it is whole at the next try


def test_doubts_about_a_recipe_are_logged_when_it_is_loaded(
    lens: Path, tmp_path: Path, stand_in: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    load_judge(lens, CPU, 2, tmp_path)
    assert [message.partition(":")[0] for message in caplog.messages] == ["recipe lens"] * 3
    assert "threshold: it was set manually, and the scores of good frames are not known" in caplog.messages[0]
    assert "expected_frames: none: a frame that shows no part or a wrong part can PASS" in caplog.messages[1]
    assert "golden: no frame with the verdict FAIL" in caplog.messages[2]


def test_recipe_is_refused_when_its_user_may_not_read_it(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("inspector.service.flow.judges.compute_sha256", refuse)
    with pytest.raises(RecipeError, match=r"recipe\.yaml: cannot be read: .*Permission denied"):
        load_judge(write("secret"), CPU, 2, tmp_path)


def test_recipe_is_refused_when_it_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError):
        load_judge(tmp_path / "nowhere", CPU, 2, tmp_path)


def test_recipe_is_refused_when_it_does_not_judge_its_golden_frames_as_it_must(
    lens: Path, tmp_path: Path, stand_in: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prove(detector: Detector, folder: Path) -> None:
        assert folder == lens
        raise RecipeError("golden frame: must be judged FAIL, got PASS")

    monkeypatch.setattr(module, "prove_golden", prove)
    with pytest.raises(RecipeError, match="golden frame: must be judged FAIL, got PASS"):
        load_judge(lens, CPU, 2, tmp_path)


def build_station(**recipes: Path | None) -> Station:
    cameras = {name: Camera(recipe=recipe) for name, recipe in recipes.items()}
    return Station(schema=1, station="press", device="cpu", tile_batch=2, cameras=cameras)


def test_cameras_share_a_judge_when_their_recipe_is_the_same_folder(
    lens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_judge: MakeJudge
) -> None:
    loaded: list[Any] = []

    def load(*arguments: Any) -> Judge:
        loaded.append(arguments)
        return make_judge()

    monkeypatch.setattr(module, "load_judge", load)
    judges = load_judges(build_station(top=lens, side=lens / ".." / "lens", bare=None), tmp_path)
    assert judges["top"] is judges["side"]
    assert set(judges) == {"top", "side"}
    assert loaded == [(lens.resolve(), CPU, 2, tmp_path)]


def test_nothing_is_timed_on_a_gpu_when_a_recipe_is_loaded_beside_a_flow(
    lens: Path, tmp_path: Path, stand_in: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[bool] = []
    opened = module.open_detector

    def note(folder: Path, **options: Any) -> Any:
        timed.append(options["timed"])
        return opened(folder, **options)

    monkeypatch.setattr(module, "open_detector", note)
    monkeypatch.setattr(module, "prove_golden", lambda detector, folder: None)
    gpu = Device("cuda", torch.device("cuda"))
    for load in (load_judge_aside, load_judge):
        load(lens, gpu, None, tmp_path)
    assert timed == [False, True]


def test_error_names_the_camera_when_its_recipe_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^cameras\.side\.recipe: ") as refused:
        load_judges(build_station(side=tmp_path / "nowhere"), tmp_path)
    assert refused.value.field == ("cameras", "side", "recipe")


def test_recipe_is_loaded_and_proved_on_each_device_whose_cameras_have_it(
    lens: Path, tmp_path: Path, stand_in: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[torch.device] = []
    proved: list[tuple[Any, Path]] = []

    def open_on(folder: Path, *, device: torch.device, **_: Any) -> SimpleNamespace:
        opened.append(device)
        return SimpleNamespace(**vars(stand_in), recipe=load_recipe(folder))

    monkeypatch.setattr(module, "open_detector", open_on)
    monkeypatch.setattr(module, "prove_golden", lambda detector, folder: proved.append((detector, folder)))
    monkeypatch.setattr(module, "choose_devices", lambda names: [Device(n, torch.device(n), False) for n in names])
    monkeypatch.setattr("torch.cuda.device", lambda device: contextlib.nullcontext())
    station = build_station(top=lens, side=lens, back=lens).model_copy(update={"device": ("cuda:0", "cuda:1")})
    steps: list[tuple[int, int]] = []
    judges = load_judges(station, tmp_path, lambda *step: steps.append(step))
    assert opened == [torch.device("cuda:0"), torch.device("cuda:1")]
    assert judges["top"] is judges["back"]
    assert [detector for detector, _ in proved] == [judges["top"].detector, judges["side"].detector]
    assert judges["top"].detector is not judges["side"].detector
    assert steps == [(0, 2), (1, 2), (2, 2)]
