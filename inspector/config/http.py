"""What a station file says of its pages over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from inspector.secret import anchor_secret
from inspector.security.settings import is_loopback
from inspector.strict.base import Name, Strict


class Tls(Strict):
    """What HTTPS is served with, in PEM files."""

    certificate: Path
    """File of the certificate, its chain after it. Renewed in place, it is taken up by a reload."""
    key: str
    """Where its key is: the path of a file with mode 0640 or stricter, or `credential:NAME`."""

    def anchor(self, folder: Path) -> Tls:
        """With its relative paths made `folder`'s."""
        return Tls(certificate=folder / self.certificate, key=anchor_secret(self.key, folder))


class Http(Strict):
    """Where /metrics, /live and /ready are served. Loopback, unless others need a login and see a certificate."""

    host: str = "127.0.0.1"
    """Address that is listened on. Any other than loopback needs `tls` and a login, or to be open in words."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 9108
    """Port of all three pages. 0: any that is free."""
    tls: Tls | None = None
    """Certificate and key. null: plain HTTP."""
    username: Name | None = None
    """Name that is asked for, from loopback too. null: no login. Given with `password` or not at all."""
    password: str | None = None
    """Where the password is: the path of a file with mode 0640 or stricter, `credential:NAME` or `env:NAME`."""
    open_without_authentication: bool = False
    """true: anyone who reaches the address may read the pages."""

    @model_validator(mode="after")
    def _loopback_or_protected(self) -> Http:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password must be given together or not at all")
        protected = self.tls is not None and self.username is not None
        if not (protected or self.open_without_authentication or is_loopback(self.host)):
            raise ValueError(
                f"host must be a loopback address, got {self.host!r}; for another give tls, username and password, or "
                "set open_without_authentication: true to let anyone who can reach it read the metrics"
            )
        return self

    def anchor(self, folder: Path) -> Http:
        """With its relative paths made `folder`'s."""
        password = None if self.password is None else anchor_secret(self.password, folder)
        return self.model_copy(update={"tls": self.tls and self.tls.anchor(folder), "password": password})
