"""Loading recipes ends with recipes or with a failure."""

from __future__ import annotations

import pytest

from inspector.config import Station
from inspector.errors import RecipeError
from inspector.service import loader as module
from inspector.service.loader import Loader


@pytest.mark.parametrize(
    ("error", "expected"),
    [(RecipeError("no weights"), "no weights"), (SystemExit("told to die"), "loader died: SystemExit('told to die')")],
)
def test_loader_has_a_failure_however_it_ended(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, expected: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(module, "load_judges", fail)
    loader = Loader(Station.model_validate({"schema": 1, "station": "press", "cameras": {"top": {}}}), lambda *_: None)
    loader.start()
    loader.join()
    assert str(loader.failure) == expected
    assert loader.judges == {}
