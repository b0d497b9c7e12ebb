"""Loading recipes ends with recipes or with a failure."""

from __future__ import annotations

import weakref
from typing import Any

import pytest

from inspector.config import Station
from inspector.errors import RecipeError
from inspector.service.control import loader as module
from inspector.service.control.loader import Loader


def make_loader() -> Loader:
    station = Station.model_validate({"schema": 1, "station": "press", "cameras": {"top": {}}})
    return Loader(station, lambda *_: None)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RecipeError("no weights"), "no weights"),
        (SystemExit("told to die"), "loader process died: SystemExit('told to die')"),
    ],
)
def test_loader_has_a_failure_however_it_ended(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, expected: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(module, "load_judges", fail)
    loader = make_loader()
    loader.start()
    loader.join()
    assert str(loader.failure) == expected
    assert loader.take() == {}


def test_loaded_network_is_freed_when_it_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    class Network:
        pass

    monkeypatch.setattr(module, "load_judges", lambda *_: {"top": Network()})
    loader = make_loader()
    loader.start()
    loader.join()
    judges: Any = loader.take()
    network = weakref.ref(judges.pop("top"))
    assert network() is None
