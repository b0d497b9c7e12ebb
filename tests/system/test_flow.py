"""The main job through the real process and its real sockets."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import zmq

from inspector.config import Sockets
from inspector.testing.station_process import StartStation, bad_frame, base_config, good_frame, next_result, send_frame


def test_station_answers_each_frame_once_when_good_and_bad_frames_come(start: StartStation) -> None:
    station = start()
    results, overlays, push = station.subscribe(), station.open(zmq.SUB, "overlays"), station.open(zmq.PUSH, "frames")
    time.sleep(0.3)
    captured_utc_ns = time.time_ns()
    for number in range(6):
        frame = bad_frame() if number % 2 else good_frame()
        send_frame(push, frame, f"f{number}", part_id=f"p{number}", captured_utc_ns=captured_utc_ns + number)
    got = [next_result(results) for _ in range(6)]
    assert [(r["frame_id"], r["verdict"], r["seq"]) for r in got] == [
        (f"f{n}", "FAIL" if n % 2 else "PASS", n + 1) for n in range(6)
    ]
    assert got[1]["reason_code"] == 1
    assert got[1]["margin"] > 0
    assert got[1]["part_id"] == "p1"
    assert got[1]["captured_utc_ns"] == captured_utc_ns + 1
    left, top, right, bottom = got[1]["regions"][0]["xyxy"]
    assert 0 <= left < right <= 160
    assert 0 <= top < bottom <= 128
    pictures = [overlays.recv_multipart() for _ in range(3)]
    assert [json.loads(p[1])["frame_id"] for p in pictures] == ["f1", "f3", "f5"]
    assert cv2.imdecode(np.frombuffer(pictures[0][2], np.uint8), cv2.IMREAD_COLOR).shape[1] == 1280
    assert station.metric("inspector_frames_received_total", camera="top") == 6
    assert station.metric("inspector_results_total", verdict="PASS") == 3
    assert station.metric("inspector_frames_in_flight") == 0
    for stage in ("capture", "queue", "preprocess", "infer", "decide", "journal", "publish", "total"):
        assert station.metric("inspector_stage_duration_seconds_count", camera="top", stage=stage) == 6, stage
    assert station.metric("inspector_consecutive_rejects", camera="top") == 1
    assert station.metric("inspector_deadline_seconds", camera="top") == 20
    assert station.metric("inspector_station_info", station="test") == 1
    assert station.metric("inspector_recipe_info", camera="top", recipe_id="tiny") == 1
    assert 0 < station.metric("inspector_disk_free_bytes") <= station.metric("inspector_disk_size_bytes")
    assert station.metric("inspector_starts_total") == station.metric("inspector_starts_total", after="first") == 1
    assert station.get("/ready") == (200, "RUNNING\n")
    assert station.stop() == 0


def test_documented_subscriber_says_what_passes_when_run_as_it_stands(start: StartStation) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "plc" / "examples.md").read_text(encoding="utf-8")
    code, sending = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    station = start()
    code = code.replace("press-3", station.config["station"])
    for name in ("results", "requests"):
        code = code.replace(getattr(Sockets(), name), station.config["sockets"][name])
    reader = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert reader.stdout.readline() == "StatusChanged(state='READY')\n"  # it is subscribed
        push = station.open(zmq.PUSH, "frames")
        for number in range(4):
            send_frame(push, bad_frame() if number % 2 else good_frame(), f"f{number}")
        said = (line.strip() for line in reader.stdout if not line.startswith("StatusChanged"))
        lines = [next(said) for _ in range(4)]
        sending = sending.replace(Sockets().imagezmq, station.config["sockets"]["imagezmq"])
        exec(sending, {"pixels": good_frame()})  # noqa: S102 (the page's)
        lines.append(next(said))
    finally:
        reader.kill()
        reader.communicate()
    assert lines == [
        "result top 1 f0 PASS OK let it through",
        "result top 2 f1 FAIL DEFECT stop the part",
        "result top 3 f2 PASS OK let it through",
        "result top 4 f3 FAIL DEFECT stop the part",
        "result top 5 4711 PASS OK let it through",
    ]


def test_jpeg_and_png_are_decoded_when_sent_encoded(start: StartStation) -> None:
    station = start()
    results, push = station.subscribe(), station.open(zmq.PUSH, "frames")
    for encoding in ("jpeg", "png"):
        data = cv2.imencode(f".{encoding}", good_frame())[1].tobytes()
        push.send_multipart([json.dumps({"camera": "top", "frame_id": encoding, "encoding": encoding}).encode(), data])
    assert [(r["frame_id"], r["verdict"]) for r in (next_result(results), next_result(results))] == [
        ("jpeg", "PASS"),
        ("png", "PASS"),
    ]


def test_imagezmq_senders_are_answered_when_they_use_req_and_raw_or_jpeg(start: StartStation, recipe: Path) -> None:
    imagezmq = pytest.importorskip("imagezmq", reason="the dev extra installs imagezmq")
    source = {"type": "imagezmq", "sender": "rpi-1"}
    camera = {"recipe": str(recipe), "deadline_ms": 20_000, "source": source}
    station = start(config=base_config(recipe, side=camera))
    results = station.subscribe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sender = imagezmq.ImageSender(connect_to=station.config["sockets"]["imagezmq"], REQ_REP=True)
        assert sender.send_image("rpi-1", good_frame()) == b"OK"
        assert sender.send_jpg("rpi-1", cv2.imencode(".jpg", good_frame())[1]) == b"OK"
        assert sender.send_image("stranger", good_frame()).startswith(b"ERROR camera")
        sender.close()
    got = [next_result(results), next_result(results)]
    assert [(r["camera"], r["verdict"]) for r in got] == [("side", "PASS"), ("side", "PASS")]


def test_folder_is_judged_once_and_watched_folder_for_new_files(
    start: StartStation, recipe: Path, tmp_path: Path
) -> None:
    for name in ("once", "watched"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "a.png"), good_frame())
    (tmp_path / "once" / "broken.png").write_bytes(b"\x89PNG not really")
    common = {"recipe": str(recipe), "deadline_ms": 20_000}
    once = common | {"source": {"type": "folder", "path": "once"}}
    watched = common | {"source": {"type": "folder", "path": "watched", "watch": True, "poll_s": 0.1}}
    config = base_config(recipe, once=once, watched=watched, top=common)
    station = start(config=config, wait=False)
    results = station.open(zmq.SUB, "results")
    station.wait_ready()
    deadline = time.monotonic() + 20
    while station.metric("inspector_results_total") < 3:  # the first may have gone before we subscribed
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert station.metric("inspector_results_total", camera="once", reason="BAD_FRAME") == 1
    cv2.imwrite(str(tmp_path / "watched" / "b.png"), bad_frame())
    while (result := next_result(results))["frame_id"] != "b.png":
        pass
    assert (result["camera"], result["verdict"]) == ("watched", "FAIL")
    assert station.process.poll() is None


def test_video_file_is_judged_to_its_end_when_read_by_opencv(start: StartStation, recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (160, 128))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write MJPG")
    for _ in range(3):
        writer.write(good_frame())
    writer.release()
    camera = {"recipe": str(recipe), "deadline_ms": 20_000, "source": {"type": "opencv", "device": str(path)}}
    station = start(config=base_config(recipe, clip=camera))
    deadline = time.monotonic() + 60
    while station.metric("inspector_results_total", camera="clip") < 3:
        assert time.monotonic() < deadline, station.log_text()
        time.sleep(0.2)
    assert station.metric("inspector_results_total", camera="clip", verdict="PASS") == 3


def test_requests_socket_replays_and_reports_when_asked(start: StartStation) -> None:
    station = start()
    results, push = station.subscribe(), station.open(zmq.PUSH, "frames")
    for number in range(3):
        send_frame(push, good_frame(), f"f{number}")
        next_result(results)
    ask = station.open(zmq.REQ, "requests")

    def request(**body: object) -> dict:
        ask.send_json(body)
        return ask.recv_json()

    replayed = request(request="replay", camera="top", from_seq=2)["results"]
    assert [(r["frame_id"], r["seq"], r["replay"]) for r in replayed] == [("f1", 2, True), ("f2", 3, True)]
    while (last_seq := request(request="status")["last_seq"]) == {"top": 2}:
        time.sleep(0.05)  # a verdict leaves before the status counts it
    assert last_seq == {"top": 3}
    assert "camera: must be one of ['top']" in request(request="replay", camera="x", from_seq=1)["error"]
    assert "from_seq: must be" in request(request="replay", camera="top", from_seq=2**63)["error"]
    assert "request: must be one of" in request(request="dance")["error"]
    assert request(request="drain") == {"ok": True, "draining": True}
    assert station.process.wait(15) == 0


def test_seq_goes_on_and_journal_keeps_when_station_restarts(start: StartStation, recipe: Path) -> None:
    config = base_config(recipe)
    first = start(config=config)
    results, push = first.subscribe(), first.open(zmq.PUSH, "frames")
    send_frame(push, good_frame(), "before")
    before = next_result(results)
    first.process.kill()
    first.process.wait()
    second = start(config=config)
    results, push = second.subscribe(), second.open(zmq.PUSH, "frames")
    send_frame(push, good_frame(), "after")
    after = next_result(results)
    assert (before["seq"], after["seq"]) == (1, 2)
    assert before["boot_id"] != after["boot_id"]
    assert before["score"] == after["score"]
    assert second.metric("inspector_starts_total") == 2
    assert second.metric("inspector_starts_total", after="kill") == 1


def test_send_and_tail_work_against_a_running_station(start: StartStation, tmp_path: Path) -> None:
    station = start()
    images = tmp_path / "images"
    images.mkdir()
    cv2.imwrite(str(images / "a.png"), good_frame())
    cv2.imwrite(str(images / "b.png"), bad_frame())
    program = [sys.executable, "-m", "inspector"]
    sockets = station.config["sockets"]
    tail = subprocess.Popen(
        [*program, "tail", "--from", sockets["results"], "--count", "2", "--timeout", "60", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    watcher = station.subscribe()
    time.sleep(5)  # tail must have subscribed; it prints nothing until a result comes
    subprocess.run([*program, "send", str(images), "--to", sockets["frames"]], check=True, timeout=60)
    out, _ = tail.communicate(timeout=60)
    next_result(watcher)
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(r["frame_id"], r["verdict"]) for r in lines] == [("images/a.png", "PASS"), ("images/b.png", "FAIL")]
    assert [r["simulated"] for r in lines] == [True, True]  # pictures are no parts
    assert station.stop() == 0  # evidence is written by then
    (written,) = (station.journal.parent / "evidence").rglob("*FAIL*.json")
    assert json.loads(written.read_text())["simulated"] is True


def test_inspect_and_evaluate_give_the_daemons_score_for_the_same_frame(
    start: StartStation, recipe: Path, tmp_path: Path
) -> None:
    frames = {"good": good_frame(), "dent": bad_frame()}
    for kind, frame in frames.items():
        (tmp_path / "test" / kind).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "test" / kind / "x.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    station = start()
    results, push = station.subscribe(), station.open(zmq.PUSH, "frames")
    daemon = {}
    for kind, frame in frames.items():
        send_frame(push, frame, kind)
        result = next_result(results)
        daemon[kind] = (result["score"], result["verdict"])
    program = [sys.executable, "-m", "inspector"]
    command = [*program, "inspect", str(recipe), str(tmp_path / "test"), "--json", "--device", "cpu"]
    lines = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout.splitlines()
    offline = {Path(line["path"]).parent.name: (line["score"], line["verdict"]) for line in map(json.loads, lines)}
    metrics = tmp_path / "metrics.json"
    command = [*program, "evaluate", str(recipe), str(tmp_path), "--json", str(metrics), "--device", "cpu"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    evaluated = {f["kind"]: (f["score"], f["verdict"]) for f in json.loads(metrics.read_text())["frames"]}
    for kind, verdict in (("good", "PASS"), ("dent", "FAIL")):
        expected = (pytest.approx(daemon[kind][0], abs=1e-6), verdict)
        assert daemon[kind][1] == verdict
        assert offline[kind] == expected
        assert evaluated[kind] == expected
