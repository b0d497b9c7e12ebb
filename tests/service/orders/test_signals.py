"""A signal takes all cameras offline or brings them back: the last one counts, and the record says it was a signal."""

from __future__ import annotations

from inspector.service.orders.offline import Offline
from inspector.service.orders.signals import OFFLINE, ONLINE, OfflineSignals


def test_last_signal_counts_and_all_cameras_follow_it_once(offline: Offline) -> None:
    signals = OfflineSignals()
    signals.obey(offline.answer_offline, offline.answer_online)
    assert offline.describe() == {"offline": {}}
    signals.note(ONLINE)
    signals.note(OFFLINE)
    assert not offline.is_offline("top")  # the handler itself does nothing
    signals.obey(offline.answer_offline, offline.answer_online)
    absent = offline.describe()["offline"]
    assert {name: (each["who"], each["keep"]) for name, each in absent.items()} == {
        "top": ("signal", False), "side": ("signal", False),
    }  # fmt: skip
    offline.answer_online({}, "anna")
    signals.obey(offline.answer_offline, offline.answer_online)
    assert offline.describe() == {"offline": {}}
    offline.answer_offline({"camera": "top", "keep": True}, "anna")
    signals.note(ONLINE)
    signals.obey(offline.answer_offline, offline.answer_online)
    assert offline.describe() == {"offline": {}}


def test_refusal_is_logged_and_ends_nothing() -> None:
    def refuse(request: object, who: str) -> None:
        raise ValueError("still offline: a restart would bring it back offline")

    signals = OfflineSignals()
    signals.note(ONLINE)
    signals.obey(refuse, refuse)
