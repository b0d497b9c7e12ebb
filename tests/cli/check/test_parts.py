"""What `inspector check` finds of a station's parts."""

from __future__ import annotations

import pytest

from inspector.cli.check.parts import _check_device
from inspector.device import Driver


@pytest.mark.parametrize("device", ["auto", "cuda"])
@pytest.mark.parametrize("in_use", [False, True])
def test_driver_that_is_too_old_is_a_problem_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, device: str, in_use: bool
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr("inspector.device.read_driver", lambda: Driver("550.54.15", 12))
    finding = _check_device(device, in_use=in_use)
    assert "this machine has 550.54.15" in str(finding.problem)
    assert "580" in str(finding.problem)
    assert "install a newer driver, or the torch built for this one" in str(finding.fix)
