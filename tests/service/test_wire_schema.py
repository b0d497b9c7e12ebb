"""docs/reference/wire.schema.json says what the messages are that a station really sends and takes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from jsonschema import Draft202012Validator

from inspector.cli.reference.wire import build_wire
from inspector.client import Sender
from inspector.config import Camera, Part, Station
from inspector.errors import BadFrameError, UnidentifiedFrameError
from inspector.journal.writer import Journal
from inspector.reasons import MEANINGS
from inspector.service.control.audit import Audit
from inspector.service.control.requests import RequestsThread
from inspector.service.control.switcher import Switcher
from inspector.service.flow.judges import Judge, Judges
from inspector.service.flow.ledger import Ledger
from inspector.service.flow.status import Identity, StatusBoard, describe_sources
from inspector.service.orders.live import Live
from inspector.service.orders.offline import Offline
from inspector.service.orders.snapshots import Snapshots
from inspector.service.orders.triggers import Triggers
from inspector.service.telemetry.health import Health
from inspector.service.telemetry.metrics import Metrics
from inspector.sources.report import CameraReport, Ptp, ReadBack
from inspector.sources.wire import FrameDecoder
from inspector.types import Frame, Reason, Region, Result, Verdict, View, Web

SCHEMA = json.loads(build_wire())
PART = Part(cameras=("top", "side"), window_ms=60_000)
WAIT_S = 20.0
Ask = Callable[..., dict[str, Any]]
MakeResult = Callable[..., Result]


def complaints(name: str, message: Any) -> list[str]:
    """What keeps a message, after a journey as JSON, from being one of a definition."""
    schema = {"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]}
    return [error.message for error in Draft202012Validator(schema).iter_errors(json.loads(json.dumps(message)))]


def list_keys(name: str) -> set[str]:
    return set(SCHEMA["$defs"][name]["properties"])


@pytest.fixture
def make_reasoned(make_result: MakeResult) -> Callable[[Reason], Result]:
    """The result of a frame with this reason."""

    def make(reason: Reason) -> Result:
        verdict = MEANINGS[reason].verdict
        recipe = {"recipe_id": "lens", "recipe_sha256": "aa", "model_sha256": "bb"}
        if verdict is Verdict.PASS:
            return make_result(verdict=verdict, reason=reason, warn=True, latency_ms={"total": 3.5}, **recipe)
        if verdict is Verdict.FAIL:
            region = Region((1, 2, 3, 4), 2.5, 4)
            return make_result(verdict=verdict, reason=reason, score=2.5, regions=(region,), part_id="p1", **recipe)
        return make_result(
            verdict=verdict, reason=reason, score=None, threshold=None, message="why", recorded=False, simulated=True
        )

    return make


@pytest.fixture
def switcher(
    tmp_path: Path, health: Health, metrics: Metrics, make_judge: Callable[..., Judge],
    make_station: Callable[..., Station],
) -> Switcher:  # fmt: skip
    """Camera `top` has a recipe, and another is asked for; a reload is, too."""
    judges = Judges()
    judges.switch({"top": make_judge()})
    (tmp_path / "lens2").mkdir()
    switcher = Switcher(
        make_station(),
        judges,
        folder=tmp_path,
        read=make_station,
        load=lambda folder, place: make_judge(),
        apply=lambda station: None,
        audit=Audit("boot", lambda event: None),
        health=health,
        metrics=metrics,
    )
    switcher.prepare("top", tmp_path / "lens2", "anna")
    return switcher


@pytest.fixture
def status(
    ledger: Ledger, running: Health, switcher: Switcher, make_result: MakeResult, offline: Offline
) -> StatusBoard:
    """Of a station with a verdict on record and a camera that is offline."""
    offline.answer_offline({"camera": "side", "keep": True}, "anna")
    report = CameraReport(True, (ReadBack("Width", "64", "64", differs=False),), 1, 2, Ptp("Slave", 120), True)
    return StatusBoard(
        Identity(station="press-3", boot_id="boot-7"),
        ledger.deadlines_ms,
        last_seqs={"top": 4},
        last_results={"top": make_result(seq=4).to_wire()},
        queue_depth=lambda: 3,
        more=lambda: (
            switcher.describe()
            | offline.describe()
            | describe_sources({"top": report})
            | {"parts": {"body": PART.model_dump(mode="json")}, "devices": {"cuda:0": ["top"], "cuda:1": ["side"]}}
        ),
        health=running,
    )


class Fired:
    """What camera programs are sent."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def __call__(self, camera: str, message: Any, until_ns: int) -> None:
        self.messages.append(message)


@pytest.fixture
def fired() -> Fired:
    return Fired()


@pytest.fixture
def ask(
    tmp_path: Path, status: StatusBoard, switcher: Switcher, health: Health, make_result: MakeResult,
    offline: Offline, make_frame: Callable[..., Frame], ledger: Ledger, fired: Fired,
    launch: Callable[[Any], Any],
) -> Iterator[Ask]:  # fmt: skip
    """Ask a running requests thread."""
    journal = Journal(tmp_path / "journal.sqlite")
    journal.append([make_result(seq=1), make_result(seq=2, verdict=Verdict.ERROR, reason=Reason.OVERLOAD)])
    journal.close()
    snapshots = Snapshots(["top"])
    snapshots.note(make_frame("f1"))
    live = Live({"top": None}, snapshots, station="press-3", note=lambda *_, **__: None)
    cameras = {"top": Camera(triggers="software"), "side": Camera(triggers="hardware")}
    offline.answer_online({}, "anna")
    recorded = threading.Event()
    recorded.set()
    triggers = Triggers(
        cameras, ledger, station="press-3", offline=offline,
        open_ticket=lambda frame, ms: (ledger.await_frame(frame, ms).number, recorded),
        attach=lambda *_: None, fire=fired, is_connected=lambda _: True,
    )  # fmt: skip
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    thread = launch(
        RequestsThread(
            context,
            "inproc://requests",
            cameras=("top", "side"),
            journal_path=tmp_path / "journal.sqlite",
            status=status.build,
            drain=lambda who: None,
            orders={
                "recipe": switcher.answer,
                "offline": offline.answer_offline,
                "online": offline.answer_online,
                "snapshot": snapshots.answer,
                "live": live.answer,
                "trigger": triggers.answer_trigger,
                "announce": triggers.answer_announce,
            },
            health=health,
        )
    )
    peer = context.socket(zmq.REQ)
    peer.rcvtimeo = int(WAIT_S * 1000)
    peer.connect("inproc://requests")

    def ask(**request: Any) -> dict[str, Any]:
        peer.send_json(request)
        answer: dict[str, Any] = json.loads(peer.recv())
        return answer

    yield ask
    peer.close(linger=0)
    thread.stop()
    thread.join(WAIT_S)
    context.destroy(linger=0)


def test_schema_is_one_and_every_key_in_it_has_a_meaning() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    parts = {name: part["properties"] for name, part in SCHEMA["$defs"].items() if "properties" in part}
    assert [f"{name}.{key}" for name, keys in parts.items() for key, value in keys.items()
            if not value.get("description")] == []  # fmt: skip


# ---------------------------------------------------------------- results


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_result_of_each_reason_is_as_the_schema_says(reason: Reason, make_reasoned: Callable[..., Result]) -> None:
    wire = make_reasoned(reason).to_wire()
    assert complaints("result", wire) == []
    assert set(wire) == list_keys("result") == set(SCHEMA["$defs"]["result"]["required"])


def test_result_of_a_part_is_as_the_schema_says(make_result: MakeResult) -> None:
    views = (View("top", "f1", 1, Verdict.FAIL, Reason.DEFECT, 2.0, 1.0), View("side", None))
    wire = make_result(camera="part/body", views=views).to_wire()
    assert complaints("result", wire) == []
    assert set(wire["views"][0]) == list_keys("view")
    assert complaints("result", wire | {"views": [{"camera": "top"}]})


def test_result_of_a_web_is_as_the_schema_says_and_so_is_one_from_before_there_were_webs(
    make_result: MakeResult,
) -> None:
    region = Region((1, 2, 3, 4), 2.5, 4, web_y=(102, 104), web_mm=(1.02, 1.04), defect=700)
    web = Web(1, (100, 200), (120, 200), encoder_value=-7, line_pitch_um=10.0)
    details = {"verdict": Verdict.FAIL, "reason": Reason.DEFECT, "score": 2.5, "threshold": 1.0}
    wire = make_result(**details, web=web, regions=(region,)).to_wire()
    assert complaints("result", wire) == []
    assert set(wire["web"]) == list_keys("web")
    assert set(wire["regions"][0]) == list_keys("region")
    old = {key: value for key, value in wire.items() if key not in {"web", "recorded"}}
    old["regions"] = [{key: value for key, value in old["regions"][0].items() if key in {"xyxy", "peak", "area"}}]
    assert complaints("recorded_result", old) == []
    assert complaints("result", wire | {"web": {"run": 1}})


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "PASS"}, {"reason": "OK"}, {"reason_code": 0}, {"seq": 0}, {"schema": 2}, {"score": "high"},
        {"recorded": False}, {"regions": [{"xyxy": [1, 2, 3], "peak": 1.0, "area": 1}]}, {"camera": None},
    ],
    ids=str,
)  # fmt: skip
def test_result_that_contradicts_itself_is_refused_by_the_schema(
    change: dict[str, Any], make_reasoned: Callable[..., Result]
) -> None:
    wire = make_reasoned(Reason.DEFECT).to_wire()
    assert complaints("result", wire | change)
    assert complaints("result", {key: value for key, value in wire.items() if key not in change})


# ---------------------------------------------------------------- status and requests


def test_status_is_as_the_schema_says(status: StatusBoard) -> None:
    message = status.build()
    assert complaints("status", message) == []
    assert set(message) == list_keys("status") == set(SCHEMA["$defs"]["status"]["required"])
    assert set(message["recipes"]["top"]) == list_keys("recipe_in_use")
    assert set(message["last_switch"]["top"]) == list_keys("switch")
    assert set(message["offline"]["side"]) == list_keys("absence")
    assert set(message["parts"]["body"]) == list_keys("part")
    source = message["sources"]["top"]
    assert set(source) == list_keys("source")
    assert set(source["settings"][0]) == list_keys("read_back")
    assert set(source["ptp"]) == list_keys("ptp")
    assert complaints("status", message | {"state": "IDLE"})


def test_reload_is_told_as_the_schema_says(status: StatusBoard, switcher: Switcher) -> None:
    switcher.reload()
    message = status.build()
    assert complaints("status", message) == []
    assert set(message["last_reload"]) == list_keys("reload")


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        ({"request": "status"}, "status"),
        ({"request": "replay", "camera": "top", "from_seq": 1}, "replay"),
        ({"request": "drain"}, "drain"),
        ({"request": "recipe", "action": "prepare", "camera": "top", "recipe": "lens2"}, "switch"),
        ({"request": "recipe", "action": "status"}, "recipe_status"),
        ({"request": "offline", "camera": "top", "keep": True}, "offline"),
        ({"request": "online"}, "online"),
        ({"request": "snapshot", "camera": "top"}, "snapshot"),
        ({"request": "live", "camera": "top", "rate_hz": 2.5, "seconds": 30}, "live"),
        ({"request": "trigger", "camera": "top", "trigger_id": "t1", "part_id": "p1", "timeout_ms": 500}, "trigger"),
        ({"request": "trigger", "camera": ["top"], "trigger_id": "t2"}, "trigger"),
        ({"request": "announce", "camera": "side", "trigger_id": 7}, "trigger"),
        ({"request": "announce", "camera": "side", "trigger_id": 8, "given_utc_ns": "now"}, "trigger"),
    ],
    ids=str,
)
def test_request_is_answered_as_the_schema_says(ask: Ask, request_: dict[str, Any], kind: str) -> None:
    if "given_utc_ns" in request_:
        request_ = request_ | {"given_utc_ns": time.time_ns()}
    assert complaints("request", request_) == []
    answer = ask(**request_)
    assert answer["ok"] is True
    assert complaints(f"{kind}_answer", answer) == []
    assert complaints("answer", answer) == []
    if kind == "replay":
        assert [result["verdict"] for result in answer["results"]] == ["PASS", "ERROR"]


def test_trigger_for_a_camera_program_is_as_the_schema_says(ask: Ask, fired: Fired) -> None:
    ask(request="trigger", camera="top", trigger_id="t1")
    (message,) = fired.messages
    assert complaints("trigger", message) == []
    assert set(message) == list_keys("trigger")


def test_live_message_is_as_the_schema_says(make_frame: Callable[..., Frame]) -> None:
    snapshots = Snapshots(["top"])
    snapshots.note(make_frame("f1"))
    live = Live({"top": None}, snapshots, station="press-3", note=lambda *_, **__: None)
    live.answer({"camera": "top"}, "anna")
    picture = live.take_due()
    assert picture is not None
    assert complaints("live", picture.message) == []
    assert set(picture.message) == list_keys("live")


@pytest.mark.parametrize(
    "request_",
    [
        {"request": "weather"},
        {"request": "replay", "camera": "top"},
        {"request": "replay", "camera": "top", "from_seq": 0},
        {"request": "recipe", "action": "prepare", "camera": "top"},
        {"request": "recipe", "action": "switch", "camera": "top"},
        {"request": "recipe", "action": "delete", "camera": "top"},
        {"request": "offline", "keep": "yes"},
        {"request": "online", "camera": 7},
        {"request": "snapshot"},
        {"request": "live", "camera": "top", "rate_hz": 6},
        {"request": "trigger", "camera": "top"},
        {"request": "trigger", "camera": ["top", "top"], "trigger_id": "t1"},
        {"request": "trigger", "camera": "top", "trigger_id": "t1", "timeout_ms": 0},
        {"request": "announce", "camera": "top", "trigger_id": None},
        {"request": "announce", "camera": "side", "trigger_id": "t1", "given_utc_ns": 0},
        {"request": "trigger", "camera": "top", "trigger_id": "t1", "given_utc_ns": 1},
        {"request": "snapshot", "camera": "top", "width": 0},
        {"request": "trigger", "camera": "top", "trigger_id": "t1", "timeout": 300},
        {"request": "offline", "keep": True, "cameras": ["top"]},
        {"request": "status", "camera": "top"},
        {},
    ],
    ids=str,
)
def test_request_that_is_refused_is_none_by_the_schema(ask: Ask, request_: dict[str, Any]) -> None:
    assert complaints("request", request_)
    answer = ask(**request_)
    assert complaints("refusal", answer) == []
    assert answer["ok"] is False


def test_switch_may_name_what_is_prepared_by_id_or_checksum() -> None:
    switch = {"request": "recipe", "action": "switch", "camera": "top"}
    for named in ({"id": "x"}, {"recipe_sha256": "aa"}, {"id": "x", "recipe_sha256": "aa", "recipe": "lens2"}):
        assert complaints("request", switch | named) == []


# ---------------------------------------------------------------- frames


@pytest.mark.parametrize(
    "details", [{}, {"pixel_format": "BGR8", "part_id": "p", "trigger_id": "t", "simulated": True, "encoder_value": 7}]
)
def test_header_of_the_sender_is_as_the_schema_says(details: dict[str, Any]) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    station = context.socket(zmq.PULL)
    station.rcvtimeo = int(WAIT_S * 1000)
    port = station.bind_to_random_port("tcp://127.0.0.1")
    with Sender(f"tcp://127.0.0.1:{port}", camera="top", timeout_s=WAIT_S) as sender:
        sender.send(np.zeros((4, 6, 3), np.uint8), frame_id="f1", **details)
        header = json.loads(station.recv_multipart()[0])
        sender.send_encoded(b"\xff\xd8\xff\xe0", frame_id="f2")
        encoded = json.loads(station.recv_multipart()[0])
    context.destroy(linger=0)
    assert complaints("frame_header", header) == []
    assert complaints("frame_header", encoded) == []
    assert set(header) <= list_keys("frame_header")
    assert set(details) <= set(header)


RAW = {"camera": "top", "frame_id": "f1", "encoding": "raw", "dtype": "uint8", "shape": [4, 6]}
DECODER = FrameDecoder({"top": Camera(), "rpi": Camera.model_validate({"source": {"type": "imagezmq"}})}, 1 << 20)


def decode_fault(header: dict[str, Any]) -> str | None:
    """Why the station takes no frame from a header with 24 bytes; None: it does."""
    try:
        return DECODER.decode([json.dumps(header).encode(), bytes(24)]).error
    except (UnidentifiedFrameError, BadFrameError) as error:
        return str(error)


@pytest.mark.parametrize(
    "change",
    [{}, {"frame_id": 7}, {"part_id": None}, {"captured_utc_ns": 0}, {"captured_utc_ns": None}, {"simulated": True},
     {"pixel_format": "BGR8"}, {"colour": "red"}, {"encoder_value": -(2**63)}, {"encoder_value": None}],
    ids=str,
)  # fmt: skip
def test_header_is_taken_by_station_and_schema_alike(change: dict[str, Any]) -> None:
    assert decode_fault(RAW | change) is None
    assert complaints("frame_header", RAW | change) == []


@pytest.mark.parametrize(
    "change",
    [{"frame_id": ""}, {"frame_id": None}, {"frame_id": "x" * 257}, {"encoding": "gif"}, {"dtype": "float32"},
     {"shape": [24]}, {"shape": None}, {"captured_utc_ns": -1}, {"captured_utc_ns": "now"}, {"simulated": "yes"},
     {"pixel_format": "Mono8"}, {"camera": None}, {"part_id": ""}, {"encoder_value": "7"}, {"encoder_value": 2**63}],
    ids=str,
)  # fmt: skip
def test_header_is_refused_by_station_and_schema_alike(change: dict[str, Any]) -> None:
    assert decode_fault(RAW | change)
    assert complaints("frame_header", RAW | change)


def test_imagezmqs_header_is_one_by_station_and_schema_alike() -> None:
    header = {"msg": "rpi", "dtype": "uint8", "shape": [4, 6]}
    assert decode_fault(header) is None
    assert complaints("imagezmq_header", header) == []
    assert complaints("imagezmq_header", {"msg": "rpi"}) == []
    assert complaints("imagezmq_header", RAW)
    assert complaints("imagezmq_header", header | {"shape": "4x6"})
