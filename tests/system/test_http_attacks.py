"""A station whose HTTP port everyone reaches: it is scraped in time and judges whatever others do there."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inspector.testing.line import Line
from inspector.testing.station_process import RunningStation, base_config

SCRAPE_S = 5.0
"""A scrape may take so long, while others use the cores; Prometheus waits for ten seconds by default."""
MAX_CONNECTIONS = 64

Serve = Callable[[], RunningStation]
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def make_certificate(folder: Path, name: str) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "30", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(folder / "http.key"), "-out", str(folder / "http.crt")]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "http.key").chmod(0o600)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("http")
    make_certificate(folder, "first")
    (folder / "http.password").write_text("long enough")
    (folder / "http.password").chmod(0o600)
    return folder


@pytest.fixture(scope="module")
def config(recipe: Path, files: Path) -> dict[str, Any]:
    config = base_config(recipe)
    tls = {"certificate": str(files / "http.crt"), "key": str(files / "http.key")}
    config["http"] |= {"host": "0.0.0.0", "tls": tls, "username": "metrics", "password": str(files / "http.password")}
    return config


@pytest.fixture
def station(serve: Serve) -> RunningStation:
    return serve()


def connect(station: RunningStation) -> socket.socket:
    return socket.create_connection(("127.0.0.1", station.config["http"]["port"]), timeout=10)


def count_threads(station: RunningStation) -> int:
    return len(list(Path(f"/proc/{station.process.pid}/task").iterdir()))


def count_sockets(station: RunningStation) -> int:
    """Open descriptors of the daemon: each connection is one."""
    return len(list(Path(f"/proc/{station.process.pid}/fd").iterdir()))


def scrape(station: RunningStation) -> float:
    """Seconds that /metrics took."""
    before = time.monotonic()
    status, text = station.get("/metrics", timeout_s=SCRAPE_S)
    assert status == 200
    assert text.endswith("\n")
    return time.monotonic() - before


def judge_and_scrape(station: RunningStation, line: Line) -> None:
    """Four frames get the verdicts they deserve, and two scrapes are answered meanwhile."""
    before = len(line.results)
    line.send(4)
    scrape(station)
    line.wait_answered()
    scrape(station)
    assert sorted(arrival.message["verdict"] for arrival in line.results[before:]) == ["FAIL", "FAIL", "PASS", "PASS"]


def test_200_slow_clients_are_given_up_and_scrapes_answered(station: RunningStation, line: Line) -> None:
    trusting = ssl.create_default_context(cafile=station.config["http"]["tls"]["certificate"])
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(connect(station)) for _ in range(150)]
        shaken = (trusting.wrap_socket(connect(station), server_hostname="127.0.0.1") for _ in range(50))
        peers += map(stack.enter_context, shaken)  # these are slow only after that
        for byte in (b"G", b"E", b"T"):
            for peer in peers:
                with contextlib.suppress(OSError):
                    peer.sendall(byte)
            judge_and_scrape(station, line)
    assert station.metric("inspector_http_requests_refused_total", cause="full") >= 200 - MAX_CONNECTIONS


def test_1000_idle_connections_cost_no_thread_and_few_descriptors(station: RunningStation, line: Line) -> None:
    threads, descriptors = count_threads(station), count_sockets(station)
    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(connect(station))
        judge_and_scrape(station, line)
        assert count_threads(station) <= threads
        assert count_sockets(station) <= descriptors + MAX_CONNECTIONS + 4


@pytest.fixture
def noise(station: RunningStation) -> Iterator[list[int]]:
    """Clients that send garbage, half of it over TLS, one after the other until the test's end; how many there were."""
    ended, sent = threading.Event(), [0]
    trusting = ssl.create_default_context(cafile=station.config["http"]["tls"]["certificate"])
    chance = random.Random(1)
    starts = [b"", b"\x16\x03\x01", b"GET /metrics HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n\r\n", b"\r\n\r\n"]

    def send() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError), connect(station) as raw:
                peer = trusting.wrap_socket(raw, server_hostname="127.0.0.1") if sent[0] % 2 else raw
                with peer:
                    peer.sendall(chance.choice(starts) + chance.randbytes(chance.choice([10, 100, 100_000])))
            sent[0] += 1

    thread = threading.Thread(target=send, name="noise")
    thread.start()
    yield sent
    ended.set()
    thread.join()


def test_scrapes_and_frames_are_answered_among_garbage(station: RunningStation, line: Line, noise: list[int]) -> None:
    while noise[0] < 100:
        judge_and_scrape(station, line)
    causes = ("handshake", "request", "size", "authentication")
    assert all(station.metric("inspector_http_requests_refused_total", cause=cause) for cause in causes)


def test_certificate_is_renewed_by_a_reload_and_kept_when_the_new_one_is_bad(
    station: RunningStation, files: Path
) -> None:
    expiry = station.metric("inspector_certificate_expiry_timestamp_seconds", socket="http")
    assert 29 < (expiry - time.time()) / 86_400 < 31
    before = (files / "http.crt").read_bytes()
    make_certificate(files, "second")
    hang_up(station, lambda: station.metric("inspector_reloads_total", outcome="applied") == 1)  # trusting the second
    second = (files / "http.crt").read_bytes()
    (files / "http.crt").write_bytes(before)  # whose key is gone
    hang_up(station, lambda: "http.tls.certificate: must be a PEM certificate" in station.log_text())
    (files / "http.crt").write_bytes(second)
    assert station.metric("inspector_reloads_total", outcome="refused") == 1


def hang_up(station: RunningStation, done: Callable[[], bool]) -> None:
    """Reload, and wait for what comes of it."""
    station.process.send_signal(signal.SIGHUP)
    limit = time.monotonic() + 10
    while True:
        with contextlib.suppress(OSError):
            if done():
                return
        assert time.monotonic() < limit, station.log_text()
        time.sleep(0.05)


def test_account_balances_and_nothing_went_wrong_at_the_end(station: RunningStation, line: Line) -> None:
    assert line.account(station.journal).broken == {}
    assert station.stop() == 0
    assert "Traceback" not in station.log_text()
    assert "long enough" not in station.log_text()
