"""Which device runs networks."""

from __future__ import annotations

import pytest

from inspector.device import choose_device
from inspector.errors import ConfigError


@pytest.mark.parametrize("device", ["cuda:99", "tpu"])
def test_device_is_refused_when_this_machine_has_none_such(device: str) -> None:
    with pytest.raises(ConfigError, match=f"device: must be .*, got '{device}'"):
        choose_device(device)
