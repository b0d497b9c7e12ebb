"""Foreign pickles: what is read from them, and that nothing in them acts."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from inspector.errors import CheckpointError
from inspector.model.inert import Inert, collect_tensors, find_module, load_inert


class Call:
    """Pickled as a call: whoever unpickles it naively makes that call."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def attacks(trace: Path) -> dict[str, Call]:
    return {
        "posix.system": Call(os.system, f"touch {trace}"),
        "builtins.eval": Call(eval, f"__import__('pathlib').Path({str(trace)!r}).touch()"),
        "builtins.exec": Call(exec, f"import pathlib; pathlib.Path({str(trace)!r}).touch()"),
        "pathlib": Call(Path.touch, trace),
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["posix.system", "builtins.eval", "builtins.exec", "pathlib"])
def test_file_is_refused_and_nothing_runs_when_it_pickles_a_call(tmp_path: Path, name: str, zipped: bool) -> None:
    trace, path = tmp_path / "executed", tmp_path / "evil.ckpt"
    content = {"state_dict": {"model.bottleneck.conv1.weight": attacks(trace)[name]}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError) as caught:
        load_inert(path)
    assert not trace.exists()
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "weights_only" not in message  # torch advises to run the file; we do not
    if zipped:
        assert name in message
        assert message.endswith("nothing of it was executed")
    torch.load(path, weights_only=False)
    assert trace.exists()  # the attack was a real one


def test_known_packages_functions_are_not_called_when_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hub.pt"
    torch.save({"model": Call(torch.hub.load, "repository", "entry")}, path)
    monkeypatch.setattr(torch.hub, "load", lambda *args: pytest.fail("called"))
    found = load_inert(path)["model"]
    assert isinstance(found, Inert)
    assert found.args == ("repository", "entry")


class Counted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))
        self.register_buffer("passing", torch.ones(2), persistent=False)
        self.hook = self.parts.forward  # a method: pickled through getattr


def test_tensors_equal_the_state_dict_when_a_module_was_pickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = ModuleType("torchvision.somewhere")
    known.Counted = Counted  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, known.__name__, known)
    monkeypatch.setattr(Counted, "__module__", known.__name__)
    module = Counted()
    torch.save({"model": module}, tmp_path / "model.pt")
    found = load_inert(tmp_path / "model.pt")["model"]
    assert type(found) is Inert
    tensors, expected = dict(collect_tensors(found)), module.state_dict()
    assert list(tensors) == list(expected)
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    assert dict(collect_tensors(find_module(found, "parts", "1"))).keys() == module.parts[1].state_dict().keys()
    assert find_module(found, "parts", "9", "nowhere").state == {}


def test_tensors_are_refused_when_modules_hold_themselves() -> None:
    module = Inert()
    module.state["_modules"] = {"again": module}
    with pytest.raises(CheckpointError, match="nested at most 64 deep"):
        list(collect_tensors(module))


@pytest.mark.parametrize("content", [b"", b"no pickle", bytes(range(256)) * 4, b"PK\x03\x04 no zip"])
def test_file_is_refused_when_it_is_noise(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "noise.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"noise\.pth: cannot be read as a checkpoint \("):
        load_inert(path)


def test_file_is_refused_when_missing_or_a_script(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.pt: cannot be read as a checkpoint \(FileNotFoundError"):
        load_inert(tmp_path / "absent.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    with pytest.raises(CheckpointError, match=r"script\.pt: cannot be read .*torchscript"):
        load_inert(tmp_path / "script.pt")
