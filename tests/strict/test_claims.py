"""What one camera has no other may have, nor could have."""

from __future__ import annotations

from pathlib import Path

from inspector.sources.cameras.gige import GigeSettings
from inspector.sources.cameras.pylon import PylonSettings
from inspector.strict.claims import Claim, find_conflicts


def list_claims(**devices: str) -> list[Claim]:
    settings = {name: GigeSettings(type="gige", device=device) for name, device in devices.items()}
    return [claim for name, each in settings.items() for claim in each.list_claims(name, Path())]


def test_camera_that_may_be_any_is_refused_beside_one_that_is_named() -> None:
    for devices in ({"top": "", "side": "192.0.2.7"}, {"side": "192.0.2.7", "top": ""}):
        assert list(find_conflicts(list_claims(**devices))) == [
            (
                ("top", "source", "device"),
                "must name one, since camera side has another gige camera, got the first one found",
            )
        ]


def test_two_cameras_that_may_be_any_are_refused() -> None:
    (conflict,) = find_conflicts(list_claims(top="", side=""))
    assert conflict[1] == "must not be the gige camera of camera top, got the first one found"


def test_cameras_of_their_own_and_one_of_another_kind_are_taken() -> None:
    claims = list_claims(top="192.0.2.6", side="192.0.2.7")
    claims += PylonSettings(type="pylon").list_claims("front", Path())
    assert list(find_conflicts(claims)) == []
