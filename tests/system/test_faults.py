"""Bad input, overload, deadlines, supervision and stops, against the real process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
import zmq

from inspector.journal.writer import read_results
from inspector.testing.station_process import (
    StartStation,
    base_config,
    good_frame,
    next_result,
    send_frame,
    write_recipe,
)

GOOD_HEADER = {"camera": "top", "frame_id": "x", "encoding": "raw", "dtype": "uint8", "shape": [128, 160, 3]}
RAW = good_frame().tobytes()
TRUNCATED = cv2.imencode(".jpg", good_frame())[1].tobytes()[:-200]

ANSWERED = {
    "wrong dtype": ({"dtype": "float32"}, RAW, "BAD_FRAME", "dtype"),
    "shape that does not fit the bytes": ({"shape": [128, 161, 3]}, RAW, "BAD_FRAME", "must be 61824 bytes, got 61440"),
    "zero-size": ({"shape": [0, 160, 3]}, b"", "BAD_FRAME", "shape"),
    "two channels": ({"shape": [128, 240, 2]}, RAW, "BAD_FRAME", "channel"),
    "truncated JPEG": ({"encoding": "jpeg"}, TRUNCATED, "BAD_FRAME", "its end is missing"),
    "not an image": ({"encoding": "png"}, b"hello", "BAD_FRAME", "must be png as their header says"),
    "unknown encoding": ({"encoding": "gif"}, RAW, "BAD_FRAME", "encoding"),
    "missing frame_id": ({"frame_id": None}, RAW, "BAD_FRAME", "frame_id: required"),
    "bad pixel format": ({"pixel_format": "YUV"}, RAW, "BAD_FRAME", "pixel_format"),
    "bad timestamp": ({"captured_utc_ns": "noon"}, RAW, "BAD_FRAME", "captured_utc_ns"),
    "another size than the recipe's": ({"shape": [160, 128, 3]}, RAW, "FRAME_MISMATCH", "frame_hw"),
    "another pixel format": ({"shape": [160, 384]}, RAW, "FRAME_MISMATCH", "pixel_format"),
}
UNIDENTIFIED = {
    "header": [b"not json", RAW],
    "camera": [json.dumps(GOOD_HEADER | {"camera": "nowhere"}).encode(), RAW],
    "parts": [b"one part"],
}


def test_bad_frames_are_answered_or_counted_and_the_flow_goes_on(start: StartStation) -> None:
    station = start()
    results, push = station.subscribe(), station.open(zmq.PUSH, "frames")
    for name, (change, data, reason, words) in ANSWERED.items():
        push.send_multipart([json.dumps(GOOD_HEADER | change).encode(), data])
        result = next_result(results)
        assert (result["verdict"], result["reason"]) == ("ERROR", reason), name
        assert words in result["message"], name
    for parts in UNIDENTIFIED.values():
        push.send_multipart(parts)
    send_frame(push, good_frame(), "last")
    assert next_result(results)["frame_id"] == "last"
    for cause in UNIDENTIFIED:
        assert station.metric("inspector_frames_unidentified_total", cause=cause) == 1
        assert "message refused" in station.log_text()
    assert station.metric("inspector_results_total") == len(ANSWERED) + 1


def test_too_large_a_frame_is_answered_when_it_can_be_identified(start: StartStation, recipe: Path) -> None:
    config = base_config(recipe)
    config["sockets"]["max_message"] = 61_440 - 1
    station = start(config=config)
    results, push = station.subscribe(), station.open(zmq.PUSH, "frames")
    send_frame(push, good_frame(), "large")
    result = next_result(results)
    assert (result["frame_id"], result["reason"]) == ("large", "BAD_FRAME")
    assert "pixels: must be at most 61439 bytes, got 61440" in result["message"]
    push.send_multipart([json.dumps(GOOD_HEADER).encode(), bytes(200_000)])  # the peer is hung up on
    time.sleep(0.5)
    again = station.open(zmq.PUSH, "frames")
    send_frame(again, good_frame()[:64], "small")
    assert next_result(results)["frame_id"] == "small"


def test_dropped_frames_get_their_error_when_the_buffer_is_full(start: StartStation) -> None:
    station = start(buffer={"max_bytes": 3 * 61_440, "when_full": "drop_oldest"})
    results, push = station.subscribe(), station.open(zmq.PUSH, "frames")
    for number in range(30):
        send_frame(push, good_frame(), f"f{number}")
    got = [next_result(results) for _ in range(30)]
    assert {r["frame_id"] for r in got} == {f"f{n}" for n in range(30)}
    assert [r["seq"] for r in got] == list(range(1, 31))
    overload = [r for r in got if r["reason"] == "OVERLOAD"]
    assert overload
    assert all(r["verdict"] == "ERROR" for r in overload)
    assert any(r["verdict"] == "PASS" for r in got)


def test_frames_that_miss_their_deadline_get_an_error_in_time(start: StartStation, recipe: Path) -> None:
    station = start(config=base_config(recipe, top={"recipe": str(recipe), "deadline_ms": 1}))
    results, push = station.subscribe(), station.open(zmq.PUSH, "frames")
    send_frame(push, good_frame(), "late")
    result = next_result(results)
    assert (result["verdict"], result["reason"]) == ("ERROR", "DEADLINE")
    assert station.metric("inspector_results_total") == 1


def test_camera_without_recipe_answers_no_recipe(start: StartStation, recipe: Path) -> None:
    station = start(config=base_config(recipe, top={}))
    results, push = station.subscribe(), station.open(zmq.PUSH, "frames")
    send_frame(push, good_frame(), "x")
    result = next_result(results)
    assert (result["verdict"], result["reason"], result["reason_code"]) == ("ERROR", "NO_RECIPE", 41)


def test_systemd_is_told_ready_watchdog_reload_and_stopping(start: StartStation, tmp_path: Path, monkeypatch) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        station = start()
        for done in (0, 1):
            assert (
                listener.recv(1024)
                == f"EXTEND_TIMEOUT_USEC=300000000\nSTATUS=STARTING: {done} of 1 recipes loaded".encode()
            )
        assert listener.recv(1024) == b"READY=1\nSTATUS=READY"
        assert listener.recv(1024).startswith(b"WATCHDOG=1\nSTATUS=READY")
        station.process.send_signal(signal.SIGHUP)
        assert next_but_watchdog(listener).startswith(b"RELOADING=1\n")
        assert next_but_watchdog(listener) == b"READY=1"
        station.process.send_signal(signal.SIGTERM)
        assert next_but_watchdog(listener) == b"STOPPING=1\nSTATUS=STOPPING"


def next_but_watchdog(listener: socket.socket) -> bytes:
    while (message := listener.recv(1024)).startswith(b"WATCHDOG=1"):
        pass
    return message


def test_disk_full_makes_errors_of_verdicts_and_degrades_the_station(start: StartStation, tmp_path: Path) -> None:
    mount = tmp_path / "state"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        station = start(evidence={"frames": "none"})
        results, push = station.subscribe(), station.open(zmq.PUSH, "frames")
        send_frame(push, good_frame(), "before")
        assert next_result(results)["verdict"] == "PASS"
        with (mount / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
        verdicts = []
        for number in range(30):
            send_frame(push, good_frame(), f"full{number}")
            verdicts.append(next_result(results))
            if verdicts[-1]["verdict"] == "ERROR":
                break
        assert verdicts[-1]["reason"] == "NOT_READY"
        assert "journal" in verdicts[-1]["message"]
        code, text = station.get("/ready")
        assert code == 503
        assert text.startswith("DEGRADED: journal")
        (mount / "filler").unlink()
        station.wait_ready()  # by itself: what was published meanwhile comes on record
        send_frame(push, good_frame(), "after")
        verdicts.append(next_result(results))
        assert verdicts[-1]["verdict"] == "PASS"
        assert station.stop() == 0
        on_record = read_results(mount / "test" / "journal.sqlite", "top", 1)
        assert [(r["seq"], r["verdict"]) for r in on_record[1:]] == [(r["seq"], r["verdict"]) for r in verdicts]
    finally:
        subprocess.run(["umount", "-l", mount], check=True)


def run_with(config: dict, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "station.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    command = [sys.executable, "-m", "inspector", "run", str(path)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_configuration_faults_exit_78_with_file_line_field_rule_and_value(recipe: Path, tmp_path: Path) -> None:
    config = base_config(recipe)
    unknown = run_with(config | {"colour": "red"}, tmp_path)
    assert unknown.returncode == 78
    assert "station.yaml:" in unknown.stderr
    assert "colour: unknown key, got value 'red'" in unknown.stderr
    wrong = run_with(config | {"tile_batch": "many"}, tmp_path)
    assert wrong.returncode == 78
    assert "tile_batch: Input should be a valid integer" in wrong.stderr
    assert "got 'many'" in wrong.stderr


def test_port_in_use_exits_1_naming_the_field(recipe: Path, tmp_path: Path) -> None:
    config = base_config(recipe)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        frames = run_with(config | {"sockets": config["sockets"] | {"frames": f"tcp://127.0.0.1:{port}"}}, tmp_path)
        http = run_with(config | {"http": {"port": port}}, tmp_path)
    # Were it an outgoing connection's, it would be free in a minute: systemd is to try again.
    assert (frames.returncode, http.returncode) == (1, 1)
    lines = (tmp_path / "station.yaml").read_text().splitlines()
    line = next(number for number, text in enumerate(lines, start=1) if text.startswith("  frames:"))
    words = f"{line}:3: sockets.frames: must be an endpoint this process can bind, got 'tcp://127.0.0.1:{port}'"
    assert f"station.yaml:{words}" in frames.stderr
    line = next(number for number, text in enumerate(lines, start=1) if text.startswith("  port:"))
    assert f"station.yaml:{line}:3: http: must be an address this process can bind, got 127.0.0.1:{port}" in http.stderr


def test_missing_or_altered_recipe_exits_78(tmp_path: Path) -> None:
    missing = run_with(base_config(tmp_path / "nowhere"), tmp_path)
    assert missing.returncode == 78
    assert re.search(r"station.yaml:\d+:\d+: cameras.top.recipe: .*nowhere/recipe.yaml: cannot be read", missing.stderr)
    recipe = write_recipe(tmp_path / "altered")
    weights = recipe / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    altered = run_with(base_config(recipe), tmp_path)
    assert altered.returncode == 78
    assert "weights.safetensors: altered: sha256 must be" in altered.stderr


def test_not_finite_weights_exit_78_never_a_pass(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from inspector.config import dump_recipe, load_recipe
    from inspector.files import compute_sha256

    recipe = write_recipe(tmp_path / "poisoned")
    state = load_file(recipe / "weights.safetensors")
    state["decoder.layer3.1.bn2.weight"][:] = np.nan
    save_file(state, recipe / "weights.safetensors")
    sha256 = compute_sha256(recipe / "weights.safetensors")
    fixed = load_recipe(recipe).model_copy(update={"weights_sha256": sha256})
    (recipe / "recipe.yaml").write_text(dump_recipe(fixed))
    refused = run_with(base_config(recipe), tmp_path)
    assert refused.returncode == 78
    assert "decoder.layer3.1.bn2.weight: weights must be finite, but 64 are not" in refused.stderr


def test_check_reports_each_part_and_exits_78_when_one_is_wrong(recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "station.yaml"
    path.write_text(yaml.safe_dump(base_config(recipe)))
    command = [sys.executable, "-m", "inspector", "check", str(path)]
    good = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert good.returncode == 0, good.stdout
    assert "tiny, threshold" in good.stdout
    path.write_text(yaml.safe_dump(base_config(tmp_path / "nowhere")))
    bad = subprocess.run([*command, "--no-environment"], check=False, capture_output=True, text=True, timeout=60)
    assert bad.returncode == 78
    assert "cameras.top.recipe" in bad.stdout


def test_unknown_choice_of_an_option_exits_2_naming_it_and_the_choices(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "inspector", "train", str(tmp_path), "--out", str(tmp_path / "recipe")]
    done = subprocess.run(
        [*command, "--map-normalisation", "loud"], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    for word in ("--map-normalisation", "'loud'", "'position'", "'none'"):
        assert word in done.stderr
