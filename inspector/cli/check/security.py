"""Keys, the list of clients, certificate and login: there, valid, and readable by nobody else."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from inspector.cli.check.finding import Finding
from inspector.config import Http, Security, Station
from inspector.errors import ConfigError


def check_security(station: Station) -> list[Finding]:
    """What guards the sockets, where something does, and what guards HTTP."""
    sockets = [_check_key(station.security), _check_clients(station.security)] if station.security else []
    return [*sockets, _check_http(station.http)]


def _find_hidden(*references: str | None) -> str | None:
    """A credential, which systemd shows to the service alone."""
    if "CREDENTIALS_DIRECTORY" in os.environ:
        return None
    return next((each for each in references if each is not None and each.startswith("credential:")), None)


def _report_hidden(what: str, reference: str) -> Finding:
    problem = f"{reference}: only the service can read it, so it was not checked"
    return Finding(what, problem=problem, fix="check `systemctl status` after the start", fatal=False)


def _check_key(security: Security) -> Finding:
    from inspector.security.keys import read_station_key

    what = "security.key"
    hidden = _find_hidden(security.key)
    if hidden is not None:
        return _report_hidden(what, hidden)
    try:
        return Finding(what, f"public key {read_station_key(security.key)[0].decode()}")
    except ConfigError as error:
        return Finding(what, problem=str(error), fix="create one with inspector keys new, or correct its file mode")


def _check_clients(security: Security) -> Finding:
    from inspector.security.keys import load_clients

    what = "security.clients"
    try:
        clients = load_clients(security.clients)
    except ConfigError as error:
        return Finding(what, problem=str(error), fix="correct the list, or create one with inspector keys new")
    let_in = sum(not client.is_revoked for client in clients)
    return Finding(what, f"{let_in} accepted, {len(clients) - let_in} revoked")


def _check_http(http: Http) -> Finding:
    from inspector.service.http.access import load_http_access

    what = "http access"
    hidden = _find_hidden(http.password, http.tls.key if http.tls else None)
    if hidden is not None:
        return _report_hidden(what, hidden)
    try:
        access = load_http_access(http)
    except ConfigError as error:
        return Finding(what, problem=str(error), fix="correct the certificate, key or password")
    login = f"login {http.username}" if access.login else "no login"
    if access.expires_utc_s is None:
        return Finding(what, f"no TLS, {login}")
    until = datetime.fromtimestamp(access.expires_utc_s, UTC)
    if until < datetime.now(UTC):
        problem = f"{http.tls and http.tls.certificate}: must not have expired, but expired at {until}"
        return Finding(what, problem=problem, fix="renew it, then run systemctl reload")
    return Finding(what, f"TLS, certificate valid until {until:%Y-%m-%d}, {login}")
