"""Which device runs networks."""

from __future__ import annotations

import pytest

from inspector.device import choose_device
from inspector.errors import ConfigError
from inspector.transient import is_transient


@pytest.mark.parametrize("device", ["cuda:99", "tpu"])
def test_device_is_refused_when_this_machine_has_none_such(device: str) -> None:
    with pytest.raises(ConfigError, match=f"device: must be .*, got '{device}'"):
        choose_device(device)


@pytest.mark.parametrize("version", ["13.0", None])
def test_gpu_that_is_not_there_may_be_there_later_unless_this_build_knows_none(
    monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    monkeypatch.setattr("torch.version.cuda", version)
    with pytest.raises(ConfigError) as error:
        choose_device("cuda:99")
    assert is_transient(error.value) == (version is not None)
