"""Who may ask over HTTP, and the certificate by which they know whom they ask."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import ssl
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from inspector.config import Http
from inspector.errors import ConfigError
from inspector.secret import find_secret_file, read_secret

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_VERSION_TAG = 0xA0
_PAUSE_S = 1.0
_MAX_ADDRESSES = 1000


@dataclass(frozen=True, slots=True)
class HttpAccess:
    """What the station file's `http` asks of clients, its files read.

    Attributes:
        tls: None where HTTP is spoken in the clear.
        login: SHA-256 of `username:password`; None where everyone may ask.
        expires_utc_s: when the first of the certificates expires, in seconds since 1970; None without TLS.
    """

    tls: ssl.SSLContext | None = field(default=None, repr=False)
    login: bytes | None = field(default=None, repr=False)
    expires_utc_s: float | None = None

    def allows(self, authorization: str) -> bool:
        """Whether the value of an Authorization header (RFC 7617; empty: none) is the login, if one is asked for."""
        if self.login is None:
            return True
        scheme, _, given = authorization.partition(" ")
        try:
            login = base64.b64decode(given.strip(), validate=True)
        except ValueError:
            return False
        # Digests are equally long, so the time taken says nothing about the password's length either.
        return hmac.compare_digest(hashlib.sha256(login).digest(), self.login) and scheme.lower() == "basic"


class FailedLogins:
    """Addresses whose login was wrong just now: until a second is over their next one is not looked at.

    So nobody can guess faster than that, and nobody else waits for it. Used by one thread.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}  # the first to be let in again comes first

    def must_wait(self, address: str) -> bool:
        """Whether this address failed within the last second."""
        return time.monotonic() < self._until.get(address, 0.0)

    def add(self, address: str) -> None:
        """Note a failure."""
        now = time.monotonic()
        self._until.pop(address, None)
        self._until[address] = now + _PAUSE_S
        while len(self._until) > _MAX_ADDRESSES or next(iter(self._until.values())) < now:
            del self._until[next(iter(self._until))]


def load_http_access(config: Http) -> HttpAccess:
    """Read certificate, key and password.

    Raises:
        ConfigError: one of them cannot be read or used, or key and certificate do not belong together.
    """
    login = None
    if config.username is not None and config.password is not None:
        password = read_secret(config.password, "http.password")
        login = hashlib.sha256(f"{config.username}:{password}".encode()).digest()
    if config.tls is None:
        return HttpAccess(login=login)
    key = find_secret_file(config.tls.key, "http.tls.key")
    certificate = config.tls.certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # An encrypted key is refused: by default OpenSSL would ask the terminal for its password.
        context.load_cert_chain(certificate, key, password=_refuse_password)
        expires = min(map(_read_expiry, _PEM.findall(certificate.read_text(encoding="ascii", errors="replace"))))
    except (OSError, ValueError, IndexError) as error:  # ssl.SSLError is an OSError
        rule = "must be a PEM certificate, followed by its chain, that belongs to http.tls.key"
        message = f"http.tls.certificate: {rule}, got {certificate} and {key}: {error}"
        raise ConfigError(message, field=("http", "tls", "certificate")) from error
    return HttpAccess(context, login, expires)


def _refuse_password() -> str:
    raise ValueError("the key is encrypted; use a key without a password, readable only by this service")


def _read_expiry(pem: str) -> float:
    """Seconds since 1970 at which a certificate's validity ends; the ssl module tells it only of its peer's.

    A certificate is DER (RFC 5280, 4.1): {{[version], serial number, signature, issuer, {from, until}, …}, …}.
    """
    ((_, certificate),) = _split_der(ssl.PEM_cert_to_DER_cert(pem))
    fields = [part for part in _split_der(_split_der(certificate)[0][1]) if part[0] != _VERSION_TAG]
    _, (_, until) = _split_der(fields[3][1])
    pattern = "%y%m%d%H%M%SZ" if len(until) == len("YYMMDDhhmmssZ") else "%Y%m%d%H%M%SZ"
    return datetime.strptime(until.decode("ascii"), pattern).replace(tzinfo=UTC).timestamp()


def _split_der(data: bytes) -> list[tuple[int, bytes]]:
    """The values that stand one after the other in `data`, each with its tag."""
    parts, at = [], 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:  # then it says how many bytes the length has
            end = at + (length & 0x7F)
            length, at = int.from_bytes(data[at:end], "big"), end
        parts.append((tag, data[at : at + length]))
        at += length
    return parts
