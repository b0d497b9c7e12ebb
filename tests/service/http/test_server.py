"""What a scraper and a supervisor get over HTTP."""

from __future__ import annotations

import base64
import contextlib
import gc
import gzip
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Callable
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge

from inspector.config import Http, Tls
from inspector.errors import ConfigError
from inspector.service.http import server as http
from inspector.service.http.access import FailedLogins, load_http_access
from inspector.service.http.server import MAX_CONNECTIONS, MAX_HEAD_BYTES, HttpThread
from inspector.service.telemetry.health import Health, State
from inspector.service.telemetry.metrics import Metrics

Launch = Callable[[Any], Any]


Make = Callable[..., HttpThread]


@pytest.fixture
def make(registry: CollectorRegistry, health: Health, metrics: Metrics) -> Make:
    """A server that is bound, on a free port unless `http` names one, and not started."""
    return lambda **http: HttpThread(Http(**{"port": 0} | http), registry=registry, health=health, metrics=metrics)


@pytest.fixture
def server(launch: Launch, make: Make) -> HttpThread:
    return launch(make())


def get(
    server: HttpThread, path: str, headers: dict[str, str] | None = None, source: str = "127.0.0.1"
) -> tuple[int, str, str]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=5, source_address=(source, 0))
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read().decode()
    finally:
        connection.close()


def test_metrics_are_served_from_the_registry_when_scraped(server: HttpThread, metrics: Metrics) -> None:
    metrics.journal_errors.inc(12)
    status, kind, body = get(server, "/metrics")
    assert status == 200
    assert kind.startswith("text/plain; version=")
    assert "\ninspector_journal_errors_total 12.0\n" in body


@pytest.mark.parametrize(
    ("state", "live", "ready"),
    [(State.STARTING, 200, 503), (State.READY, 200, 200), (State.RUNNING, 200, 200), (State.STOPPING, 200, 503)],
)
def test_live_and_ready_tell_the_state_when_asked(
    server: HttpThread, health: Health, bring: Callable[..., None], state: State, live: int, ready: int
) -> None:
    bring(health, state)
    assert get(server, "/live") == (live, "text/plain; charset=utf-8", f"{state.value}\n")
    assert get(server, "/ready") == (ready, "text/plain; charset=utf-8", f"{state.value}\n")


def test_ready_names_the_component_when_one_has_a_problem(server: HttpThread, running: Health) -> None:
    running.report("journal", "disk full – 0 bytes")
    assert get(server, "/live")[0] == 200
    status, _, body = get(server, "/ready")
    assert (status, body) == (503, "DEGRADED: journal: disk full – 0 bytes\n")


def test_neither_live_nor_ready_when_at_fault(server: HttpThread, health: Health) -> None:
    health.fault("device", "CUDA error")
    for path in ("/live", "/ready"):
        status, _, body = get(server, path)
        assert (status, body) == (503, "FAULT: device: CUDA error\n")


def test_status_is_the_state_until_the_station_describes_itself_and_then_its_page(
    server: HttpThread, health: Health, bring: Callable[..., None]
) -> None:
    assert get(server, "/status") == (503, "text/plain; charset=utf-8", "STARTING\n")
    bring(health, State.READY)
    describe = {"station": "press-3", "state": "READY", "published_utc_ns": 0, "queue_depth": 7, "last_error": None}
    server.describe(lambda: {**describe, "last_seq": {}})
    status, kind, body = get(server, "/status")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert "frames waiting: 7" in body


@pytest.mark.parametrize("path", ["/", "/nowhere", "/metrics/", "/live/x"])
def test_other_paths_are_not_found_and_say_what_is_when_asked(server: HttpThread, path: str) -> None:
    assert get(server, path) == (404, "text/plain", "/metrics /live /ready /status\n")


def test_others_are_served_when_a_client_says_nothing(server: HttpThread, health: Health) -> None:
    with socket.create_connection(("127.0.0.1", server.port)):
        health.enter(State.READY)
        assert get(server, "/ready")[0] == 200


def test_requests_leave_no_line_when_served(server: HttpThread, capfd: pytest.CaptureFixture[str]) -> None:
    get(server, "/metrics")
    get(server, "/nowhere")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_port_in_use_is_a_config_error_naming_it_when_bound(make: Make, address: str) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((address, 0))
        taken.listen()
        port = taken.getsockname()[1]
        rule = f"http: must be an address this process can bind, got 127.0.0.1:{port}: "
        with pytest.raises(ConfigError, match=rule):
            make(port=port)


def test_port_is_free_again_when_stopped(server: HttpThread, make: Make, end: Callable[..., None]) -> None:
    end(server)
    again = make(port=server.port)
    assert again.port == server.port
    again.stop()


def test_stop_releases_the_port_when_it_was_never_started(make: Make) -> None:
    server = make()
    server.stop()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", server.port))


def test_connections_are_held_when_a_burst_comes_faster_than_they_are_accepted(make: Make) -> None:
    server = make()  # not started: it accepts none
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        for _ in range(100):
            # Where none is free the kernel asks again after a second; on loopback the others take no time.
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=0.9))


# ---------------------------------------------------------------- bounds


def refused(metrics: Metrics, cause: str) -> float:
    return metrics.http_requests_refused.labels(cause)._value.get()


def wait_refused(metrics: Metrics, cause: str, count: int = 1) -> None:
    limit = time.monotonic() + 5
    while refused(metrics, cause) < count:
        assert time.monotonic() < limit, f"{cause} refused {refused(metrics, cause)} times"
        time.sleep(0.01)


def connect(server: HttpThread) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=5)


def ask(server: HttpThread, request: bytes) -> bytes:
    """All that is answered to these bytes."""
    with connect(server) as peer, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        peer.sendall(request)
        return b"".join(iter(lambda: peer.recv(65_536), b""))
    return b""


def test_oldest_are_closed_and_others_answered_when_200_connections_say_nothing(
    server: HttpThread, metrics: Metrics
) -> None:
    with contextlib.ExitStack() as stack:
        threads = threading.active_count()
        idle = [stack.enter_context(connect(server)) for _ in range(200)]
        assert get(server, "/live")[0] == 200
        wait_refused(metrics, "full", 200 - MAX_CONNECTIONS)
        assert threading.active_count() == threads
        with contextlib.suppress(ConnectionResetError):
            assert idle[0].recv(1) == b""
        idle[-1].sendall(b"GET /live HTTP/1.0\r\n\r\n")  # one of the youngest is still heard
        assert idle[-1].recv(100).startswith(b"HTTP/1.1 200 OK\r\n")


def test_connection_is_closed_at_its_deadline_when_a_byte_comes_now_and_then(
    server: HttpThread, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "DEADLINE_S", 0.3)
    with connect(server) as peer, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        for _ in range(50):
            peer.sendall(b"G")
            time.sleep(0.02)
    assert refused(metrics, "timeout") == 1


def test_connection_is_closed_at_its_deadline_when_the_answer_is_not_taken(
    server: HttpThread, metrics: Metrics, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "DEADLINE_S", 0.3)
    Gauge("large", "x" * 20_000_000, registry=registry)
    with connect(server) as peer:
        peer.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        wait_refused(metrics, "timeout")


def test_head_tells_what_get_would_and_sends_no_body(server: HttpThread) -> None:
    head, _, body = ask(server, b"HEAD /live HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Length: 9\r\n" in head
    assert body == b""


def test_metrics_are_compressed_when_asked_so(server: HttpThread) -> None:
    request = b"GET /metrics HTTP/1.1\r\nAccept-Encoding: gzip\r\n\r\n"
    head, _, body = ask(server, request).partition(b"\r\n\r\n")
    assert b"Content-Encoding: gzip" in head
    assert "inspector_journal_errors_total 0.0" in gzip.decompress(body).decode().splitlines()


@pytest.mark.parametrize(
    ("request_", "status", "cause"),
    [
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405, "method"),
        (b"get /metrics HTTP/1.1\r\n\r\n", 405, "method"),
        (b"\x16\x03\x01\x02\x00 hello\r\n\r\n", 400, "request"),
        (b"GET /metrics\r\n\r\n", 400, "request"),
        (b"GET /metrics HTTP/9.9\r\n\r\n", 400, "request"),
        (b"GET http://[x HTTP/1.1\r\n\r\n", 400, "request"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 400, "request"),
        (b"GET /" + b"x" * 2 * MAX_HEAD_BYTES + b" HTTP/1.1\r\n\r\n", 431, "size"),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 1_000_000, 431, "size"),
    ],
)
def test_request_is_refused_and_counted_when_it_is_none_of_ours(
    server: HttpThread, metrics: Metrics, request_: bytes, status: int, cause: str
) -> None:
    answer = ask(server, request_)
    if answer or len(request_) < 100_000:  # who goes on sending may not hear it
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert refused(metrics, cause) == 1


def test_others_are_answered_when_a_page_fails(server: HttpThread, registry: CollectorRegistry) -> None:
    gauge = Gauge("broken", "Broken.", registry=registry)
    gauge.set_function(lambda: 1 / 0)
    assert ask(server, b"GET /metrics HTTP/1.1\r\n\r\n") == b""
    assert get(server, "/live")[0] == 200


# ---------------------------------------------------------------- login


def login(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.fixture
def guarded(launch: Launch, make: Make, monkeypatch: pytest.MonkeyPatch) -> HttpThread:
    monkeypatch.setenv("METRICS_PASSWORD", "trüb:wetter")
    return launch(make(username="metrics", password="env:METRICS_PASSWORD"))


@pytest.mark.parametrize("path", ["/metrics", "/live", "/ready", "/nowhere"])
def test_nothing_is_answered_without_the_login_and_all_with_it(
    guarded: HttpThread, metrics: Metrics, path: str
) -> None:
    assert get(guarded, path)[0::2] == (401, "")
    assert refused(metrics, "authentication") == 1
    assert get(guarded, path, login("metrics:trüb:wetter"))[0] == {"/ready": 503, "/nowhere": 404}.get(path, 200)
    challenge = b'WWW-Authenticate: Basic realm="inspector", charset="UTF-8"\r\n'
    assert challenge in ask(guarded, f"GET {path} HTTP/1.1\r\n\r\n".encode())


@pytest.mark.parametrize(
    "headers",
    [
        login("metrics:wrong"),
        login("Metrics:trüb:wetter"),
        login(""),
        {"Authorization": "Basic !"},
        {"Authorization": "Basic"},
        {"Authorization": login("metrics:trüb:wetter")["Authorization"].replace("Basic", "Bearer")},
    ],
)
def test_wrong_login_is_refused_and_the_next_waits_a_second_while_other_addresses_do_not(
    guarded: HttpThread, metrics: Metrics, headers: dict[str, str]
) -> None:
    assert get(guarded, "/live", headers)[0] == 401
    assert get(guarded, "/live", login("metrics:trüb:wetter"))[0] == 429
    assert (refused(metrics, "authentication"), refused(metrics, "throttled")) == (1, 1)
    assert get(guarded, "/live", login("metrics:trüb:wetter"), source="127.0.0.2")[0] == 200
    assert get(guarded, "/live")[0] == 401  # no login: nothing was guessed


def test_failed_addresses_are_forgotten_after_a_second_and_are_few_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    failed = FailedLogins()
    for number in range(5000):
        failed.add(f"address {number}")
    assert failed.must_wait("address 4999")
    assert len(failed._until) == 1000
    now += 1.0
    assert not failed.must_wait("address 4999")
    failed.add("another")
    now += 0.1
    failed.add("yet another")
    assert set(failed._until) == {"another", "yet another"}


def test_password_appears_nowhere_when_logins_fail(
    guarded: HttpThread, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    get(guarded, "/live", login("metrics:guess-me"))
    get(guarded, "/live", login("metrics:trüb:wetter"))
    text = caplog.text + "".join(capfd.readouterr()) + repr(guarded._access)
    assert "127.0.0.1 sent a wrong user name or password" in text
    assert not any(word in text for word in ("guess-me", "wetter", "Basic"))


# ---------------------------------------------------------------- TLS


def make_certificate(folder: Path, name: str, *options: str, days: int = 30) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-days", str(days), "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate), *(options or ["-nodes"])]
    subprocess.run(command, check=True, capture_output=True)
    key.chmod(0o600)
    return certificate, key


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("pair"), "first")


def tls(pair: tuple[Path, Path]) -> dict[str, Any]:
    return {"tls": Tls(certificate=pair[0], key=str(pair[1]))}


def get_over_tls(server: HttpThread, certificate: Path, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> str:
    """What /live says to a client that trusts this certificate only."""
    context = ssl.create_default_context(cafile=str(certificate))
    context.maximum_version = newest
    connection = HTTPSConnection("127.0.0.1", server.port, timeout=5, context=context)
    with contextlib.closing(connection):
        connection.request("GET", "/live")
        return connection.getresponse().read().decode()


def enddate(certificate: Path) -> float:
    command = ["openssl", "x509", "-in", str(certificate), "-noout", "-enddate"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return ssl.cert_time_to_seconds(shown.strip().removeprefix("notAfter="))


def test_https_is_served_and_its_certificates_end_is_told_when_there_is_tls(
    launch: Launch, make: Make, metrics: Metrics, pair: tuple[Path, Path]
) -> None:
    server = launch(make(**tls(pair)))
    assert get_over_tls(server, pair[0]) == "STARTING\n"
    assert metrics.certificate_expiry.labels("http")._value.get() == enddate(pair[0])


def test_client_is_refused_and_counted_when_it_speaks_no_tls(
    launch: Launch, make: Make, metrics: Metrics, pair: tuple[Path, Path]
) -> None:
    server = launch(make(**tls(pair)))
    assert b"HTTP/" not in ask(server, b"GET /live HTTP/1.1\r\n\r\n")
    wait_refused(metrics, "handshake")  # the connection is closed first


def test_tls_1_2_is_spoken_and_nothing_older(launch: Launch, make: Make, pair: tuple[Path, Path]) -> None:
    server = launch(make(**tls(pair)))
    assert get_over_tls(server, pair[0], ssl.TLSVersion.TLSv1_2) == "STARTING\n"
    assert load_http_access(Http(**tls(pair))).tls.minimum_version is ssl.TLSVersion.TLSv1_2


def test_others_are_served_and_the_oldest_closed_when_handshakes_are_begun_and_left(
    launch: Launch, make: Make, metrics: Metrics, pair: tuple[Path, Path]
) -> None:
    server = launch(make(**tls(pair)))
    with contextlib.ExitStack() as stack:
        for _ in range(2 * MAX_CONNECTIONS):
            stack.enter_context(connect(server)).sendall(b"\x16\x03\x01\x02\x00\x01")
        assert get_over_tls(server, pair[0]) == "STARTING\n"
        wait_refused(metrics, "full", MAX_CONNECTIONS)


def test_memory_stays_when_200_tls_connections_break_off(
    launch: Launch, make: Make, pair: tuple[Path, Path], metrics: Metrics
) -> None:
    server = launch(make(**tls(pair)))
    gc.collect()
    gc.disable()  # as in a daemon with a million objects, where the oldest generation's turn comes seldom
    tracemalloc.start()
    try:
        for _ in range(200):
            connect(server).close()
        wait_refused(metrics, "handshake", 200)
        assert tracemalloc.get_traced_memory()[0] < 200 * 64 * 1024
    finally:
        tracemalloc.stop()
        gc.enable()


def test_new_certificate_is_shown_to_new_clients_when_it_was_loaded(
    launch: Launch, make: Make, metrics: Metrics, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    server = launch(make(**tls(pair)))
    second = make_certificate(tmp_path, "second", days=60)
    server.use(load_http_access(Http(**tls(second))))
    assert get_over_tls(server, second[0]) == "STARTING\n"
    assert metrics.certificate_expiry.labels("http")._value.get() == enddate(second[0])
    with pytest.raises(ssl.SSLError):
        get_over_tls(server, pair[0])


@pytest.mark.parametrize("days", [30, 20_000])
def test_first_end_in_the_chain_counts_also_beyond_2050(tmp_path: Path, days: int) -> None:
    certificate, key = make_certificate(tmp_path, "own", days=days)
    later, _ = make_certificate(tmp_path, "issuer", days=30_000)
    certificate.write_text(certificate.read_text() + later.read_text())
    assert load_http_access(Http(**tls((certificate, key)))).expires_utc_s == enddate(certificate)


def test_certificate_is_refused_when_it_cannot_serve(pair: tuple[Path, Path], tmp_path: Path) -> None:
    other, other_key = make_certificate(tmp_path, "other", "-passout", "pass:hidden")
    junk = tmp_path / "junk.crt"
    junk.write_bytes(b"\xff junk")
    rule = "http.tls.certificate: must be a PEM certificate, followed by its chain, that belongs to http.tls.key, got "
    for faulty, word in (((other, pair[1]), "MISMATCH"), ((other, other_key), "encrypted"), ((junk, pair[1]), "PEM")):
        with pytest.raises(ConfigError, match=f"{rule}.*{word}") as fault:
            load_http_access(Http(**tls(faulty)))
        assert fault.value.field == ("http", "tls", "certificate")
    other_key.chmod(0o644)
    with pytest.raises(ConfigError, match=r"http.tls.key: must have mode 0640 or stricter"):
        load_http_access(Http(**tls((other, other_key))))
