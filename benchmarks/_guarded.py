"""A station with keys, TLS and login, and the key files of its clients and of those who attack it."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import zmq
from _traffic import CAMERA, DEADLINE_MS

from inspector.client.keys import ClientKey
from inspector.security.keys import Client, Role, edit_clients, make_station_key, read_station_key
from inspector.testing.station_process import base_config

OTHER_CAMERA = "bottom"
"""What the stolen key may send."""
MAX_MESSAGE = 4 * 1024**2
_ROLES = {"cam": Role.SENDER, "plc": Role.SUBSCRIBER, "viewer": Role.SUBSCRIBER, "thief": Role.SENDER,
          "leaver": Role.SENDER}  # fmt: skip


def write_keys(folder: Path) -> dict[str, Path]:
    """The station's key, the list of clients, and key files by name; `stranger` is on no list, `leaver` is revoked."""
    make_station_key(folder / "station.key")
    station_public = read_station_key(str(folder / "station.key"))[0].decode()
    now = datetime.now(UTC)
    files = {}
    with edit_clients(folder / "clients.yaml") as clients:
        for name in (*_ROLES, "stranger"):
            public, secret = (key.decode() for key in zmq.curve_keypair())
            files[name] = folder / f"{name}.key"
            files[name].touch(0o600)
            files[name].write_text(ClientKey(name, "test", station_public, public, secret).dump(), encoding="utf-8")
            if name in _ROLES:
                cameras = (OTHER_CAMERA,) if name == "thief" else None
                revoked = now if name == "leaver" else None
                clients.append(Client(name=name, public_key=public, roles=(_ROLES[name],), cameras=cameras,
                                      created=now, revoked=revoked))  # fmt: skip
    return files


def build_config(folder: Path, recipe: Path) -> dict[str, Any]:
    """The station file's content; makes the certificate and the password, in the folder of `write_keys`."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "30", "-subj", "/CN=benchmark", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(folder / "http.key"), "-out", str(folder / "http.crt")]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    (folder / "http.key").chmod(0o600)
    (folder / "http.password").touch(0o600)
    (folder / "http.password").write_text("correct horse", encoding="utf-8")
    camera = {"recipe": str(recipe), "deadline_ms": DEADLINE_MS}
    config = base_config(recipe, **{CAMERA: camera, OTHER_CAMERA: camera})
    config["security"] = {"key": str(folder / "station.key"), "clients": str(folder / "clients.yaml")}
    config["sockets"]["max_message"] = MAX_MESSAGE
    tls = {"certificate": str(folder / "http.crt"), "key": str(folder / "http.key")}
    config["http"] |= {"tls": tls, "username": "metrics", "password": str(folder / "http.password")}
    return config
