"""Where secrets come from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inspector.errors import ConfigError
from inspector.secret import anchor_secret, mask_secrets, read_secret, remember_secret


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(" tr0ub4dor\n")
    path.chmod(0o600)
    return path


def test_secret_is_read_from_a_file_a_credential_and_the_environment(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(file.parent))
    monkeypatch.setenv("HTTP_PASSWORD", "tr0ub4dor")
    for reference in (str(file), "credential:password", "env:HTTP_PASSWORD"):
        assert read_secret(reference, "http.password") == "tr0ub4dor"


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o602, 0o601])
def test_file_others_may_read_or_change_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ConfigError, match=rf"http\.password: must have mode 0640 or stricter, got .*{mode:04o}"):
        read_secret(str(file), "http.password")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_file_of_another_user_is_refused(file: Path) -> None:
    os.chown(file, 12345, 12345)
    with pytest.raises(ConfigError, match=r"http\.password: must belong to .* got .* of user 12345"):
        read_secret(str(file), "http.password")


@pytest.mark.parametrize(
    ("reference", "rule"),
    [
        ("/nowhere/password", "must be a file this process can read"),
        ("/", "must be a regular file"),
        ("env:NO_SUCH_VARIABLE", "must contain a secret, got nothing"),
        ("credential:password", "must run as a systemd service"),
    ],
)
def test_error_names_field_rule_and_reference(reference: str, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ConfigError, match=rf"^http\.password: {rule}.*{reference}") as caught:
        read_secret(reference, "http.password")
    assert caught.value.field == ("http", "password")


def test_empty_and_binary_files_are_refused(file: Path) -> None:
    for content in (b" \n", b"\xff\xfe"):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=r"^http\.password: must "):
            read_secret(str(file), "http.password")


def test_relative_paths_are_relative_to_the_station_file() -> None:
    assert anchor_secret("keys/a", Path("/etc/inspector")) == "/etc/inspector/keys/a"
    assert anchor_secret("/keys/a", Path("/etc/inspector")) == "/keys/a"
    assert anchor_secret("credential:a", Path("/etc/inspector")) == "credential:a"


def test_secrets_and_passwords_in_urls_are_masked_once_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inspector.secret._known", frozenset())
    assert mask_secrets("tr0ub4dor") == "tr0ub4dor"
    read_secret(str(file), "http.password")
    remember_secret("abc")  # too short to be one, and in other words
    assert mask_secrets("got tr0ub4dor, not abcd") == "got ***, not abcd"
    assert mask_secrets("'rtsp://viewer:hunter2@192.0.2.7/live'") == "'rtsp://***@192.0.2.7/live'"
    assert mask_secrets("tcp://127.0.0.1:5555 and a@b") == "tcp://127.0.0.1:5555 and a@b"
