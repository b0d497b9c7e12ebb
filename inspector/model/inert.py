"""Foreign pickles, read without running anything in them: tensors and plain data come out, objects stay inert."""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inspector.errors import CheckpointError

_KNOWN_PACKAGES = frozenset(
    {"anomalib", "lightning", "pytorch_lightning", "timm", "torch", "torchmetrics", "torchvision"}
)
"""Where the classes of an exported anomalib model come from. A file that names anything else is refused."""

_KNOWN_NAMES = frozenset({"builtins.getattr"})
"""What such a file names beside them: getattr, to hold methods. As inert as the rest."""

_DICTIONARIES = frozenset({"lightning.fabric.utilities.data.AttributeDict"})
"""Classes pickled item by item, as a dictionary; torch's restricted reader puts items into plain ones only."""

_DEEPEST = 64
"""Modules within modules that are followed: a file that nests deeper, or in a circle, is no network."""


class Inert:
    """What stands where a file wants an object: its constructor's arguments and its state, nothing that acts."""

    __slots__ = ("args", "state")

    args: tuple[Any, ...]
    state: dict[str, Any]

    def __new__(cls, *args: Any) -> Inert:
        self = super().__new__(cls)
        self.args = args
        self.state = {}
        return self

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.state = state


def load_inert(path: Path) -> Any:
    """What a file of `torch.save` holds, on the CPU, every object but tensors and plain containers `Inert`.

    Nothing is imported or called on the file's behalf: torch's weights-only reader does the reading, and each class
    of a known package that the file names is given to it as `Inert`.

    Raises:
        CheckpointError: unreadable, or it names something outside the packages a model is made of.
    """
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(path) else []
    except Exception as error:  # torch raises many kinds here; each means: this file cannot be used
        raise _unreadable(path, error) from error
    foreign = sorted(
        name for name in names if name.partition(".")[0] not in _KNOWN_PACKAGES and name not in _KNOWN_NAMES
    )
    if foreign:
        raise CheckpointError(
            f"{path}: must contain only tensors and the classes of a model, got a pickle that names "
            f"{', '.join(foreign)}; "
            "nothing of it was executed"
        )
    stand_ins: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (OrderedDict if name in _DICTIONARIES else Inert, name) for name in names
    ]
    try:
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    cause = error.__context__ or error  # torch wraps it in advice to allow, or to run, what the file holds
    reason = next(iter(str(cause).splitlines()), "").partition(" Please ")[0]
    return CheckpointError(f"{path}: cannot be read as a checkpoint ({type(error).__name__}: {reason})")


def collect_tensors(module: Inert, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """The names and tensors that the module's `state_dict` would have.

    Raises:
        CheckpointError: modules nested without end.
    """
    if depth > _DEEPEST:
        raise CheckpointError(f"model: modules must be nested at most {_DEEPEST} deep, got {prefix!r}")
    passing = module.state.get("_non_persistent_buffers_set", ())
    for kind in ("_parameters", "_buffers"):
        for name, value in _entries(module, kind):
            if isinstance(value, Tensor) and name not in passing:
                yield f"{prefix}{name}", value.detach()
    for name, part in _entries(module, "_modules"):
        if isinstance(part, Inert):
            yield from collect_tensors(part, f"{prefix}{name}.", depth + 1)


def find_module(module: Inert, *names: str) -> Inert:
    """The submodule at the end of `names`; an empty one where there is none."""
    for name in names:
        part = dict(_entries(module, "_modules")).get(name)
        module = part if isinstance(part, Inert) else Inert()
    return module


def _entries(module: Inert, kind: str) -> list[tuple[str, Any]]:
    entries = module.state.get(kind)
    return list(entries.items()) if isinstance(entries, dict) else []
