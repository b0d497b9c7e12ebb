"""What every test shares: one thread for torch, and the real data where it is at hand."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import zmq

import inspector  # noqa: F401 (before what reports that it is used)

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_finish() -> None:
    """What torch and the tests themselves brought stays to the end: it is not walked over again and again."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Other tests run beside, and OpenVINO's pool would wait for torch's idle threads."""
    torch.set_num_threads(1)
    logging.getLogger("torch.__trace").setLevel(logging.WARNING)  # thousands of records for each network converted


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled networks are kept for this run alone, child processes included."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """A command run within a test sets up the log of the whole process."""
    loggers = [logging.getLogger(), logging.getLogger("inspector")]
    before = [(logger, logger.level) for logger in loggers]
    yield
    for logger, level in before:
        logger.setLevel(level)
        for handler in [each for each in logger.handlers if type(each).__module__.startswith("inspector.")]:
            logger.removeHandler(handler)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real frames and weights: $INSPECTOR_TEST_DATA, or ../shared/data beside the checkout."""
    named = os.environ.get("INSPECTOR_TEST_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}: set INSPECTOR_TEST_DATA")
    return folder


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    """Closed with all its sockets at the end of the test."""
    made: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield made
    made.destroy(linger=0)
