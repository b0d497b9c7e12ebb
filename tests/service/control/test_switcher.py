"""Recipes and settings change beside the flow, or stay as they are and it is told why."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from inspector.config import Station
from inspector.engine.base import Precision
from inspector.errors import ConfigError, DeviceFaultError, DeviceOutOfMemoryError, RecipeError
from inspector.files import compute_sha256
from inspector.journal.events import Event
from inspector.service.control.audit import Audit
from inspector.service.control.switcher import Switcher
from inspector.service.flow.judges import Judge, Judges
from inspector.service.telemetry.health import Health, State
from inspector.service.telemetry.metrics import Metrics
from inspector.types import Fallback

WAIT_S = 10.0


class Bench:
    """A switcher over recipes that are two small files each, and a loader that does what it is told."""

    def __init__(self, folder: Path, health: Health, metrics: Metrics, **station: Any) -> None:
        self.folder = folder
        self.judges = Judges()
        self.faults: dict[str, Exception] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.loading = threading.Event()
        self.held = ""
        self.loading_held, self.release = threading.Event(), threading.Event()
        self.loaded: list[str] = []
        self.loaded_on: list[tuple[str, int]] = []
        self.faults_on: dict[tuple[str, int], Exception] = {}
        self.applied: list[Station] = []
        self.events: list[Event] = []
        for name in ("lens", "lens2", "lens3"):
            self.write(name)
        self.station = self.next_station = self.make_station(**station)
        self.switcher = Switcher(
            self.station,
            self.judges,
            folder=folder,
            read=self._read,
            load=self._load,
            apply=self.applied.append,
            audit=Audit("boot", self.events.append),
            health=health,
            metrics=metrics,
        )

    def write(self, name: str, text: str = "") -> Path:
        recipe = self.folder / name
        recipe.mkdir(exist_ok=True)
        (recipe / "recipe.yaml").write_text(f"{name} {text}")
        (recipe / "weights.safetensors").write_text(f"{name} weights {text}")
        return recipe

    def make_station(self, **changes: Any) -> Station:
        cameras = {"top": {"recipe": self.folder / "lens"}, "side": {"recipe": self.folder / "lens"}}
        return Station.model_validate({"schema": 1, "station": "press", "cameras": cameras} | changes)

    def start(self) -> None:
        judge = self.make_judge(self.folder / "lens")
        self.judges.switch({"top": judge, "side": judge})
        self.switcher.start()

    def make_judge(self, folder: Path) -> Judge:
        recipe = SimpleNamespace(
            recipe_id=folder.name,
            backbone="resnet18",
            weights_sha256=compute_sha256(folder / "weights.safetensors"),
            threshold=SimpleNamespace(value=float(len(folder.name))),
        )
        engine = SimpleNamespace(precision=Precision.FP32, name="fake", fallback=Fallback.NONE)
        detector: Any = SimpleNamespace(recipe=recipe, engine=engine)
        return Judge(detector, folder, compute_sha256(folder / "recipe.yaml"))

    def _load(self, folder: Path, place: int) -> Judge:
        self.loading.set()
        assert self.gate.wait(WAIT_S)
        if folder.name == self.held:
            self.loading_held.set()
            assert self.release.wait(WAIT_S)
        self.loaded.append(folder.name)
        self.loaded_on.append((folder.name, place))
        if folder.name in self.faults:
            raise self.faults[folder.name]
        if (folder.name, place) in self.faults_on:
            raise self.faults_on[folder.name, place]
        return self.make_judge(folder)

    def _read(self) -> Station:
        if isinstance(self.next_station, Exception):
            raise self.next_station
        return self.next_station

    def ask(self, action: str, camera: str = "top", **more: Any) -> dict[str, Any]:
        return self.switcher.answer({"request": "recipe", "action": action, "camera": camera} | more, "engineer")

    def ask_as(self, who: str, action: str, **more: Any) -> dict[str, Any]:
        return self.switcher.answer({"request": "recipe", "action": action, "camera": "top"} | more, who)

    def prepare(self, recipe: str, camera: str = "top", who: str = "engineer") -> dict[str, Any]:
        """Ask, and wait until it is prepared or not."""
        request = {"action": "prepare", "camera": camera, "recipe": recipe}
        assert self.switcher.answer(request, who)["state"] == "preparing"
        return self.wait(lambda status: status["last_switch"][camera])

    def switch(self, recipe: str) -> dict[str, Any]:
        """Prepare it for camera `top` and switch to it."""
        return self.ask("switch", id=self.prepare(recipe)["id"])

    def reload(self, station: Any) -> dict[str, Any]:
        self.next_station = station
        self.switcher.reload()
        return self.wait(lambda status: status["last_reload"])

    def wait(self, pick: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        deadline = time.monotonic() + WAIT_S
        while (change := pick(self.switcher.describe()))["state"] == "preparing":
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return change

    def in_use(self) -> dict[str, tuple[str, bool]]:
        recipes = self.switcher.describe()["recipes"]
        return {name: (Path(recipe["folder"]).name, recipe["from_station_file"]) for name, recipe in recipes.items()}


AS_STARTED = {"top": ("lens", True), "side": ("lens", True)}


@pytest.fixture
def bench(tmp_path: Path, health: Health, metrics: Metrics) -> Iterator[Bench]:
    yield from run_bench(Bench(tmp_path, health, metrics), health)


def run_bench(bench: Bench, health: Health) -> Iterator[Bench]:
    health.enter(State.READY)
    bench.start()
    yield bench
    bench.gate.set()
    bench.switcher.stop()
    bench.switcher.join(WAIT_S)
    assert not bench.switcher.is_alive()


# ---------------------------------------------------------------- prepare and switch


def test_prepared_recipe_judges_only_that_camera_and_only_once_switched(
    bench: Bench, registry: CollectorRegistry
) -> None:
    prepared = bench.prepare("lens2")
    assert (prepared["state"], prepared["error"]) == ("prepared", None)
    assert prepared["recipe"] == str(bench.folder / "lens2")
    assert prepared["asked_utc_ns"] <= prepared["ended_utc_ns"]
    assert bench.in_use() == AS_STARTED
    assert bench.ask("switch", id=prepared["id"])["state"] == "switched"
    assert bench.in_use() == AS_STARTED | {"top": ("lens2", False)}
    assert bench.ask("status")["last_switch"]["top"]["state"] == "switched"
    with pytest.raises(ValueError, match="camera: top must have a prepared recipe, the last one requested is switched"):
        bench.ask("switch", id=prepared["id"])
    value = registry.get_sample_value
    labels = {"camera": "top", "outcome": "switched"}
    assert value("inspector_recipe_switches_total", labels) == 1
    assert bench.judges.get("top").threshold == 5.0


@pytest.mark.parametrize("error", [RecipeError("checksum"), ValueError("odd"), DeviceOutOfMemoryError("no room")])
def test_old_recipe_stays_and_it_is_told_why_when_the_new_one_fails(
    bench: Bench, registry: CollectorRegistry, health: Health, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    bench.faults["lens2"] = error
    refused = bench.prepare("lens2")
    assert (refused["state"], refused["error"]) == ("refused", str(error))
    assert str(error) in caplog.text
    with pytest.raises(
        ValueError, match=rf"the last one requested is refused: .*lens2 by engineer \(id \w+\): {error}"
    ):
        bench.ask("switch", id=refused["id"])
    assert bench.in_use() == AS_STARTED
    assert health.state is State.READY
    assert registry.get_sample_value("inspector_recipe_switches_total", {"camera": "top", "outcome": "refused"}) == 1
    assert bench.prepare("lens3")["state"] == "prepared"


def test_nothing_is_prepared_any_more_when_a_second_recipe_is_refused(bench: Bench) -> None:
    first = bench.prepare("lens2")
    bench.faults["lens3"] = RecipeError("torn")
    bench.prepare("lens3")
    with pytest.raises(ValueError, match=r"refused: .*lens3 by engineer .*: torn"):
        bench.ask("switch", id=first["id"])
    assert bench.in_use() == AS_STARTED


def test_second_recipe_takes_the_place_of_the_first_when_asked_for_while_that_is_loading(bench: Bench) -> None:
    bench.gate.clear()
    bench.held = "lens3"
    bench.ask("prepare", recipe="lens2")
    assert bench.loading.wait(WAIT_S)
    bench.ask("prepare", recipe="lens")
    last = bench.ask("prepare", recipe="lens3")
    bench.gate.set()
    assert bench.loading_held.wait(WAIT_S)  # lens2 is loaded
    with pytest.raises(ValueError, match=r"the last one requested is preparing: .*lens3"):
        bench.ask("switch", id=last["id"])
    bench.release.set()
    assert bench.wait(lambda status: status["last_switch"]["top"])["state"] == "prepared"
    assert bench.loaded == ["lens2", "lens3"]  # never the one in between
    bench.ask("switch", id=last["id"])
    assert bench.in_use()["top"] == ("lens3", False)


def test_station_is_at_fault_when_the_device_fails_while_preparing(bench: Bench, health: Health) -> None:
    bench.faults["lens2"] = DeviceFaultError("device: unspecified launch failure")
    bench.ask("prepare", recipe="lens2")
    bench.switcher.join(WAIT_S)
    assert not bench.switcher.is_alive()
    assert health.state is State.FAULT
    assert health.last_error == "device: device: unspecified launch failure"
    assert bench.switcher.failure is bench.faults["lens2"]


WRONG = [
    ({"action": "dance"}, "action: must be one of ['prepare', 'switch', 'status'], got 'dance'"),
    ({"action": None}, "action: must be one of"),
    ({"camera": "bottom"}, "camera: must be one of ['top', 'side'], got 'bottom'"),
    ({"camera": None}, "camera: must be one of"),
    ({"camera": ["top"]}, "camera: must be one of"),
    ({}, "recipe: must be a recipe folder on the station's machine, got None"),
    ({"recipe": ""}, "recipe: must be"),
    ({"recipe": 7}, "recipe: must be"),
    ({"recipe": "a\0b"}, "recipe: must be"),
    ({"recipe": "x" * 5000}, "recipe: must be"),
    ({"recipe": "x" * 4000}, "recipe: must be"),
    ({"recipe": "\ud800"}, "recipe: must be"),
    ({"recipe": "circle"}, "recipe: must be"),
    ({"recipe": "nowhere"}, "got 'nowhere' ("),
    ({"recipe": "lens/recipe.yaml"}, "recipe: must be a recipe folder"),
]


def test_requests_that_break_a_rule_are_told_field_rule_and_value(bench: Bench) -> None:
    (bench.folder / "circle").symlink_to("circle")
    for change, words in WRONG:
        with pytest.raises(ValueError, match="must be") as refused:
            bench.switcher.answer({"action": "prepare", "camera": "top"} | change, "engineer")
        assert words in str(refused.value), change
    assert bench.loaded == []


def test_nothing_is_prepared_when_the_station_is_starting(tmp_path: Path, health: Health, metrics: Metrics) -> None:
    bench = Bench(tmp_path, health, metrics)
    with pytest.raises(ValueError, match="the station is starting"):
        bench.ask("prepare", recipe="lens2")


def test_what_is_loaded_is_not_used_when_asked_to_stop_meanwhile(bench: Bench) -> None:
    bench.gate.clear()
    cameras = {name: {"recipe": bench.folder / "lens2"} for name in ("top", "side")}
    bench.next_station = bench.make_station(cameras=cameras)
    bench.switcher.reload()
    assert bench.loading.wait(WAIT_S)
    bench.switcher.stop()
    bench.gate.set()
    bench.switcher.join(WAIT_S)
    assert bench.in_use() == AS_STARTED
    assert bench.applied == []


# ---------------------------------------------------------------- a switch names what it puts in force


def test_preparation_is_named_from_the_first_answer_on_and_its_recipe_once_it_is_loaded(bench: Bench) -> None:
    answers = [bench.ask("prepare", recipe="lens2") for _ in range(2)]
    assert answers[0]["id"] != answers[1]["id"]
    assert (answers[1]["who"], answers[1]["recipe_sha256"]) == ("engineer", None)
    prepared = bench.wait(lambda status: status["last_switch"]["top"])
    assert (prepared["id"], prepared["who"]) == (answers[1]["id"], "engineer")
    assert prepared["recipe_sha256"] == compute_sha256(bench.folder / "lens2" / "recipe.yaml")


def test_switch_is_done_when_it_names_what_is_prepared_in_either_way_or_in_both(bench: Bench) -> None:
    for names in (["id"], ["recipe_sha256"], ["id", "recipe_sha256"], ["id", "recipe"]):
        bench.prepare("lens")
        prepared = bench.prepare("lens2")
        assert bench.ask("switch", **{name: prepared[name] for name in names})["state"] == "switched", names
        assert bench.in_use()["top"] == ("lens2", False)


@pytest.mark.parametrize("named", [{}, {"recipe": "lens2"}, {"id": None, "recipe_sha256": None}], ids=repr)
def test_switch_is_refused_and_what_is_prepared_stays_when_it_does_not_say_which_recipe_is_meant(
    bench: Bench, named: dict[str, Any]
) -> None:
    prepared = bench.prepare("lens2")
    with pytest.raises(ValueError, match="id or recipe_sha256: required, to say which recipe is meant") as refused:
        bench.ask("switch", **named)
    for words in (str(bench.folder / "lens2"), "engineer", prepared["id"], prepared["recipe_sha256"]):
        assert words in str(refused.value)
    assert bench.in_use() == AS_STARTED
    assert bench.ask("status")["last_switch"]["top"] == prepared


def test_switch_is_refused_when_one_of_the_names_it_gives_is_not_that_of_what_is_prepared(bench: Bench) -> None:
    right = bench.prepare("lens2")
    sha256 = compute_sha256(bench.folder / "lens3" / "recipe.yaml")
    wrong: list[dict[str, Any]] = [
        {"id": "0" * 32}, {"id": 7}, {"id": [right["id"]]}, {"id": right["id"].upper()}, {"recipe_sha256": sha256},
        {"id": right["id"], "recipe_sha256": sha256}, {"id": "", "recipe_sha256": right["recipe_sha256"]},
        {"id": right["id"], "recipe": "lens3"}, {"id": right["id"], "recipe": "nowhere"},
    ]  # fmt: skip
    for named in wrong:
        with pytest.raises(ValueError, match=r"(id|recipe_sha256|recipe): must be .* got "):
            bench.ask("switch", **named)
        assert bench.in_use() == AS_STARTED, named
    assert bench.ask("switch", id=right["id"])["state"] == "switched"


def test_switch_is_refused_when_somebody_else_prepared_another_recipe_meanwhile(bench: Bench) -> None:
    first = bench.prepare("lens2", who="anna")
    second = bench.prepare("lens3", who="ben")
    for named in ({"id": first["id"]}, {"recipe_sha256": first["recipe_sha256"]}):
        with pytest.raises(ValueError, match=r"prepared is .*lens3 by ben \(id"):
            bench.ask_as("anna", "switch", **named)
    assert bench.in_use() == AS_STARTED
    assert bench.ask_as("ben", "switch", id=second["id"])["state"] == "switched"
    with pytest.raises(ValueError, match=r"the last one requested is switched: .*lens3 by ben"):
        bench.ask_as("anna", "switch", id=first["id"])
    assert bench.in_use()["top"] == ("lens3", False)


def test_recipe_prepared_for_another_camera_is_not_switched_to(bench: Bench) -> None:
    top = bench.prepare("lens2")
    bench.prepare("lens3", camera="side")
    with pytest.raises(ValueError, match="id: must be that of the prepared recipe"):
        bench.ask("switch", "side", id=top["id"])
    assert bench.in_use() == AS_STARTED


def test_recipe_that_was_loaded_is_what_a_switch_names_when_its_folder_changed_since(bench: Bench) -> None:
    prepared = bench.prepare("lens2")
    altered = compute_sha256(bench.write("lens2", "altered") / "recipe.yaml")
    with pytest.raises(ValueError, match="recipe_sha256: must be that of the prepared recipe"):
        bench.ask("switch", recipe_sha256=altered)
    bench.ask("switch", recipe_sha256=prepared["recipe_sha256"])
    judge = bench.judges.get("top")
    assert judge is not None
    assert judge.recipe_sha256 == prepared["recipe_sha256"] != altered


def test_prepared_recipe_is_neither_used_nor_lost_when_the_station_file_is_reloaded(bench: Bench) -> None:
    prepared = bench.prepare("lens2")
    cameras = {name: {"recipe": bench.folder / "lens3"} for name in ("top", "side")}
    bench.reload(bench.make_station(cameras=cameras))
    assert bench.in_use()["top"] == ("lens3", True)
    assert bench.ask("switch", id=prepared["id"])["state"] == "switched"
    assert bench.in_use()["top"] == ("lens2", False)


# ---------------------------------------------------------------- reload


def test_settings_are_applied_and_no_recipe_is_loaded_when_only_they_changed(
    bench: Bench, registry: CollectorRegistry
) -> None:
    lens = {"recipe": bench.folder / "lens"}
    cameras = {"top": lens | {"deadline_ms": 5, "expected_fps": 2}, "side": lens}
    station = bench.make_station(cameras=cameras, overlays={"frames": "all"}, stop_timeout_s=3.0)
    assert bench.reload(station)["state"] == "applied"
    assert bench.applied == [station]
    assert bench.loaded == []
    assert registry.get_sample_value("inspector_reloads_total", {"outcome": "applied"}) == 1


def test_cameras_share_a_recipe_that_is_loaded_once_when_both_change_to_it(bench: Bench) -> None:
    station = bench.make_station(cameras={name: {"recipe": bench.folder / "lens2"} for name in ("top", "side")})
    assert bench.reload(station)["state"] == "applied"
    assert bench.loaded == ["lens2"]
    assert bench.judges.get("top") is bench.judges.get("side")
    assert bench.in_use() == {"top": ("lens2", True), "side": ("lens2", True)}


@pytest.mark.parametrize("file", ["recipe.yaml", "weights.safetensors"])
def test_recipe_is_loaded_anew_when_a_file_in_the_same_folder_changed(bench: Bench, file: str) -> None:
    (bench.folder / "lens" / file).write_text("another")
    assert bench.reload(bench.station)["state"] == "applied"
    assert bench.loaded == ["lens"]


def test_station_files_recipe_counts_again_when_another_was_switched_to(bench: Bench) -> None:
    bench.switch("lens2")
    bench.reload(bench.station)
    assert bench.in_use() == AS_STARTED


def test_switch_stays_when_it_came_while_a_reload_was_loading(bench: Bench) -> None:
    prepared = bench.prepare("lens2")
    bench.held = "lens3"
    bench.next_station = bench.make_station(
        cameras={name: {"recipe": bench.folder / "lens3"} for name in ("top", "side")}
    )
    bench.switcher.reload()
    assert bench.loading_held.wait(WAIT_S)
    assert bench.ask("switch", id=prepared["id"])["state"] == "switched"
    bench.release.set()
    assert bench.wait(lambda status: status["last_reload"])["state"] == "applied"
    assert bench.in_use() == {"top": ("lens2", False), "side": ("lens3", True)}
    bench.reload(bench.next_station)  # asked for after the switch
    assert bench.in_use() == {"top": ("lens3", True), "side": ("lens3", True)}


def test_refused_reload_shows_no_password_of_a_streams_url(bench: Bench) -> None:
    refused = bench.reload(ConfigError("cameras.top.source.devic: unknown key, value 'rtsp://anna:tr0ub4dor@cam/1'"))
    assert refused["error"] == "cameras.top.source.devic: unknown key, value 'rtsp://***@cam/1'"


def test_nothing_changes_when_one_of_the_recipes_is_refused(bench: Bench, registry: CollectorRegistry) -> None:
    bench.faults["lens3"] = RecipeError("torn")
    cameras = {"top": {"recipe": bench.folder / "lens2"}, "side": {"recipe": bench.folder / "lens3"}}
    refused = bench.reload(bench.make_station(cameras=cameras, stop_timeout_s=3.0))
    assert (refused["state"], refused["error"]) == ("refused", "cameras.side.recipe: torn")
    assert bench.in_use() == AS_STARTED
    assert bench.applied == []
    assert registry.get_sample_value("inspector_reloads_total", {"outcome": "refused"}) == 1
    assert bench.reload(bench.station)["state"] == "applied"


def test_nothing_changes_when_the_file_is_broken(bench: Bench, health: Health) -> None:
    refused = bench.reload(ConfigError("station.yaml:3: nonsense: unknown key"))
    assert (refused["state"], refused["error"]) == ("refused", "station.yaml:3: nonsense: unknown key")
    assert bench.applied == []
    assert health.state is State.READY


def test_all_fields_that_need_a_restart_are_named_when_they_changed(bench: Bench) -> None:
    station = bench.make_station(
        cameras={"top": {"simulated": True}, "left": {}},
        sockets={"results": "ipc:///tmp/r"},
        http={"port": 1},
        device="cpu",
        tile_batch=3,
        stop_timeout_s=3.0,
    )
    refused = bench.reload(station)
    assert refused["state"] == "refused"
    named = {line.partition(":")[0] for line in refused["error"].splitlines()}
    assert named == {
        "cameras.top.simulated",
        "cameras.top.recipe",
        "cameras.left",
        "cameras.side",
        "sockets.results",
        "http.port",
        "device",
        "tile_batch",
    }
    assert "http.port: cannot change without a restart, is 9108, got 1" in refused["error"]
    assert bench.applied == []


def test_status_looks_at_no_file_when_asked(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "resolve", lambda *_, **__: pytest.fail("a folder on a dead network would be waited for"))
    assert bench.switcher.describe()["recipes"]["top"]["from_station_file"] is True


# ---------------------------------------------------------------- on record


def recorded(bench: Bench) -> list[tuple[Any, ...]]:
    return [(event.kind, event.outcome, event.who, event.camera) for event in bench.events]


def test_switch_is_on_record_with_who_and_both_recipes(bench: Bench) -> None:
    prepared = bench.prepare("lens2")
    assert bench.events == []  # nothing is judged with it yet
    bench.ask_as("shift lead", "switch", id=prepared["id"])
    assert recorded(bench) == [("recipe", "switched", "shift lead", "top")]
    (event,) = bench.events
    old, new = event.details["old"], event.details["new"]
    assert (old["recipe_id"], old["threshold"]) == ("lens", 4.0)
    assert (new["recipe_id"], new["threshold"], new["folder"]) == ("lens2", 5.0, str(bench.folder / "lens2"))
    assert new["recipe_sha256"] == compute_sha256(bench.folder / "lens2" / "recipe.yaml")
    assert 0 <= time.time_ns() - event.at_utc_ns < 60e9


def test_switch_is_on_record_before_frames_are_judged_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = bench.prepare("lens2")
    switch, noted = bench.judges.switch, []
    monkeypatch.setattr(bench.judges, "switch", lambda judges: (noted.append(len(bench.events)), switch(judges)))
    bench.ask("switch", id=prepared["id"])
    assert noted == [1]


def test_refused_recipe_is_on_record_with_who_and_why(bench: Bench) -> None:
    bench.faults["lens2"] = RecipeError("checksum")
    bench.prepare("lens2")
    assert recorded(bench) == [("recipe", "refused", "engineer", "top")]
    assert bench.events[0].details == {"recipe": str(bench.folder / "lens2"), "reason": "checksum"}


def test_replaced_preparation_and_refused_switch_are_on_record_once_with_who(bench: Bench) -> None:
    first = bench.prepare("lens2", who="anna")
    bench.prepare("lens3", who="ben")
    for _ in range(3):
        with pytest.raises(ValueError, match="must be that of the prepared recipe"):
            bench.ask_as("anna", "switch", id=first["id"])
    assert recorded(bench) == [("recipe", "replaced", "ben", "top"), ("recipe", "refused", "anna", "top")]
    replaced, refused = (event.details for event in bench.events)
    assert replaced["recipe"] == str(bench.folder / "lens2")
    assert replaced["reason"] == f"was prepared for anna (id {first['id']}); now {bench.folder / 'lens3'} is"
    assert refused["reason"].startswith("switch: id: must be that of the prepared recipe")


def test_reload_is_on_record_with_what_it_changed_or_why_not(bench: Bench) -> None:
    bench.reload(bench.make_station(cameras={"top": {"recipe": bench.folder / "lens2"}, "side": {}}))
    assert recorded(bench) == [("reload", "refused", "station file", None)]
    assert "cameras.side.recipe: cannot be removed without a restart" in bench.events.pop().details["reason"]
    cameras = {"top": {"recipe": bench.folder / "lens2"}, "side": {"recipe": bench.folder / "lens"}}
    bench.reload(bench.make_station(cameras=cameras, stop_timeout_s=3.0))
    assert recorded(bench) == [
        ("reload", "applied", "station file", None),
        ("recipe", "switched", "station file", "top"),
    ]
    assert bench.events[0].details["changes"] == [
        {"field": "stop_timeout_s", "old": 10.0, "new": 3.0},
        {"field": "cameras.top.recipe", "old": str(bench.folder / "lens"), "new": str(bench.folder / "lens2")},
    ]


# ---------------------------------------------------------------- several devices

TWO = ["cpu", "cpu"]


@pytest.fixture
def bench_of_two(tmp_path: Path, health: Health, metrics: Metrics) -> Iterator[Bench]:
    """Of camera `top` on the first device, of `side` on the second."""
    yield from run_bench(Bench(tmp_path, health, metrics, device=TWO), health)


def test_recipe_is_prepared_on_the_device_of_its_camera(bench_of_two: Bench) -> None:
    bench = bench_of_two
    bench.prepare("lens2", camera="side")
    bench.prepare("lens3", camera="top")
    assert bench.loaded_on == [("lens2", 1), ("lens3", 0)]


def test_recipe_of_cameras_on_two_devices_is_loaded_on_each_at_a_reload(bench_of_two: Bench) -> None:
    bench = bench_of_two
    lens2 = {"recipe": bench.folder / "lens2"}
    assert bench.reload(bench.make_station(device=TWO, cameras={"top": lens2, "side": lens2}))["state"] == "applied"
    assert bench.loaded_on == [("lens2", 0), ("lens2", 1)]
    assert bench.judges.get("top") is not bench.judges.get("side")
    assert bench.in_use() == {"top": ("lens2", True), "side": ("lens2", True)}


def test_no_device_has_a_new_recipe_when_it_fails_on_one_of_them(bench_of_two: Bench) -> None:
    bench = bench_of_two
    before = dict(bench.judges)
    bench.faults_on[("lens2", 1)] = RecipeError("golden frame: must be judged FAIL, got PASS")
    lens2 = {"recipe": bench.folder / "lens2"}
    change = bench.reload(bench.make_station(device=TWO, cameras={"top": lens2, "side": lens2}))
    assert (change["state"], bench.loaded_on) == ("refused", [("lens2", 0), ("lens2", 1)])
    assert "cameras.side.recipe: golden frame" in change["error"]
    assert dict(bench.judges) == before


def test_devices_cannot_change_without_a_restart(bench_of_two: Bench) -> None:
    change = bench_of_two.reload(bench_of_two.make_station(device="cpu"))
    assert change["error"] == "device: cannot change without a restart, is ['cpu', 'cpu'], got 'cpu'"
