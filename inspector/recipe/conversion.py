"""A recipe's network converted for the CPU by a process of its own, which gives way to the one that judges.

Conversion is seconds of Python and of all cores. In the process that judges it would hold up every thread (the
interpreter's lock) and take half the cores from the network; a thread of low priority that holds the lock is worse.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import torch

from inspector.config import load_recipe
from inspector.engine.build import fill_cache, is_converted
from inspector.errors import ConfigError
from inspector.recipe.network import fill_model, read_weights

logger = logging.getLogger(__name__)

_NICE = 10
"""A tenth of a core where the others are all taken; the whole of one where they are not."""
_PR_SET_PDEATHSIG = 1


def convert_aside(folder: Path, cache: Path) -> None:
    """See that what `folder` needs on a CPU is in `cache`; what cannot be done is left to whoever opens the recipe."""
    try:
        if is_converted(load_recipe(folder), cache):
            return
    except (ConfigError, ImportError):  # told by whoever opens it
        return
    command = [sys.executable, "-P", "-m", __name__, str(folder), str(cache), str(os.getpid())]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(  # noqa: S603 (this very interpreter; paths are arguments of their own)
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        logger.warning(
            "%s: not converted in a separate process, so it is converted in this one while frames are judged: %s",
            folder,
            last,
        )


def _main(folder: str, cache: str, parent: str) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it was gone before the kernel knew
        return
    with suppress(OSError):  # a sandbox may not have it
        os.nice(_NICE)
    torch.set_num_threads(1)
    recipe = load_recipe(Path(folder))
    fill_cache(recipe, lambda: fill_model(recipe, read_weights(Path(folder), recipe), Path(folder)), Path(cache))


if __name__ == "__main__":
    _main(*sys.argv[1:])
