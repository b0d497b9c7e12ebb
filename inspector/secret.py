"""Secrets: read from files nobody else may read, from systemd's credentials or from the environment; never logged."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from inspector.errors import ConfigError

_MAX_BYTES = 65_536
_IN_URL = re.compile(r"(?<=://)[^/\s@]+@")
_SHORTEST = 4
"""Characters of a secret that is masked: shorter ones are no secrets, and stand in every other word."""
_known: frozenset[str] = frozenset()


def remember_secret(secret: str) -> None:
    """Have `mask_secrets` replace this one from now on; those that `read_secret` reads are remembered anyway."""
    global _known  # noqa: PLW0603 (one process, one log)
    if len(secret) >= _SHORTEST:
        _known |= {secret}


def mask_secrets(text: str) -> str:
    """The text with *** for each secret this process has read, and for names and passwords in URLs."""
    if "://" in text:
        text = _IN_URL.sub("***@", text)
    for secret in _known:
        text = text.replace(secret, "***")
    return text


def anchor_secret(reference: str, base: Path) -> str:
    """A reference whose relative path is relative to `base`."""
    return reference if reference.startswith(("credential:", "env:")) else str(base / reference)


def find_secret_file(reference: str, field: str) -> Path:
    """The file that a `PATH` or `credential:NAME` stands for, its modes checked.

    Raises:
        ConfigError: it is not there, belongs to somebody else, or others may read or change it.
    """
    named = tuple(field.split("."))
    path = Path(reference)
    if reference.startswith("credential:"):
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if not folder:
            rule = "must run as a systemd service with LoadCredential= for a credential"
            raise ConfigError(f"{field}: {rule}, got {reference!r}", field=named)
        path = Path(folder) / reference.removeprefix("credential:")
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(
            f"{field}: must be a file this process can read, got {reference!r}: {error}", field=named
        ) from error
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{field}: must be a regular file, got {path}", field=named)
    if reference.startswith("credential:"):
        return path  # systemd makes it for this service alone, its group readable by nobody
    if found.st_uid not in {os.geteuid(), 0}:
        rule = f"must belong to the user that runs this program ({os.geteuid()}) or to root"
        raise ConfigError(f"{field}: {rule}, got {path} of user {found.st_uid}", field=named)
    if found.st_mode & 0o027:
        rule = "must have mode 0640 or stricter"
        raise ConfigError(f"{field}: {rule}, got {path} with {stat.S_IMODE(found.st_mode):04o}", field=named)
    return path


def read_secret(reference: str, field: str) -> str:
    """What `PATH`, `credential:NAME` (of systemd's LoadCredential=) or `env:NAME` holds, without blanks around it.

    Args:
        reference: where the secret is; an absolute path, see `anchor_secret`.
        field: of the station file, for the error.

    Raises:
        ConfigError: there is none, it is empty, or others may read or change it.
    """
    named = tuple(field.split("."))
    if reference.startswith("env:"):
        secret = os.environ.get(reference.removeprefix("env:"), "").strip()
    else:
        path = find_secret_file(reference, field)
        try:
            with path.open(encoding="utf-8") as file:
                secret = file.read(_MAX_BYTES).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{field}: must be a text file this process can read, got {path}: {error}", field=named
            ) from error
    if not secret:
        raise ConfigError(f"{field}: must contain a secret, got nothing from {reference!r}", field=named)
    remember_secret(secret)
    return secret
