"""The package's floors: a module imports from its own floor or from below, never upward, never in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "inspector"

FLOORS = (
    "errors",
    "transient",
    "files",
    "locks",
    "reasons",
    "types",
    "codec",
    "secret",
    "logs",
    "strict",
    "security",
    "sources",
    "config",
    "model",
    "device",
    "engine",
    "detection",
    "recipe",
    "training",
    "journal",
    "sinks",
    "service",
    "client",
    "bridges",
    "console",
    "fleet",
    "testing",
    "cli",
    "__main__",
)
"""From the ground up. Some rooms are named before the first line is written there."""

FORBIDDEN = {
    ("journal", "training"),
    ("sinks", "sources"),
    ("sinks", "training"),
    ("sinks", "journal"),
    ("service", "training"),
    ("console", "service"),
    ("fleet", "service"),
}

ROOMS = {
    "service": ("telemetry", "orders", "flow", "control", "http"),
    "training": ("data", "thresholds", "optimise", "evaluation"),
}
"""Rooms within a room, from the ground up; what lies beside them, such as `train.py`, may import all of them."""

ALLOWED_INSIDE = {
    "client": {"client"},
    "bridges": {"bridges", "client"},
    "console": {"console", "client", "journal", "config"},
}
"""Rooms that run in processes of their own: all that they may import of this package, beside the ground."""

GROUND = {PACKAGE, "errors", "files", "reasons", "types", "secret", "logs"}

MOST_FILES, MOST_LINES = 15, 300
"""Of a room, and of a file: past that a file says why in its first lines."""

ALLOWED_OUTSIDE = {"client": {"zmq"}}
"""Floors that may import only these beside the standard library and themselves: they run where no torch is."""

Graph = dict[str, set[str]]


def read_imports(root: Path) -> Graph:
    """Every module of the package and the package's modules it names in an import, wherever in the file."""
    files = {".".join(path.relative_to(root).with_suffix("").parts): path for path in (root / PACKAGE).rglob("*.py")}
    modules = {name.removesuffix(".__init__"): path for name, path in files.items()}
    return {name: find_imports(name, path, set(modules)) for name, path in modules.items()}


def find_imports(name: str, path: Path, modules: set[str]) -> set[str]:
    found: set[str] = set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                anchor = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*anchor, *([node.module] if node.module else [])])
            names = {f"{base}.{alias.name}" for alias in node.names}
            found |= {whole if whole in modules else base for whole in names}
    return {target for target in found if target == PACKAGE or target.startswith(f"{PACKAGE}.")} - {name}


def floor_of(module: str) -> str:
    return module.split(".")[1] if "." in module else PACKAGE


def height_of(module: str) -> int:
    """Within its room: of the rooms inside, and above them what lies beside them."""
    rooms = ROOMS.get(floor_of(module), ())
    inner = module.split(".")[2:3]
    return rooms.index(inner[0]) if inner and inner[0] in rooms else len(rooms)


def find_faults(graph: Graph) -> list[str]:
    faults = []
    height = {PACKAGE: -1} | {floor: number for number, floor in enumerate(FLOORS)}
    for module, targets in sorted(graph.items()):
        if floor_of(module) not in height:
            faults.append(f"{module}: has no floor; add it to FLOORS")
            continue
        for target in sorted(targets):
            if target not in graph:
                faults.append(f"{module} imports {target}, which does not exist")
            elif why := find_fault(module, target, height):
                faults.append(f"{module} imports {target}, {why}")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        faults.append(f"circle: {' → '.join(error.args[1])}")
    return faults


def find_fault(module: str, target: str, height: dict[str, int]) -> str:
    mine, theirs = floor_of(module), floor_of(target)
    if mine == theirs:
        is_package = module.count(".") == 1  # a room's own __init__.py may show what is inside
        return "" if is_package or height_of(target) <= height_of(module) else "upward"
    if height.get(theirs, 0) > height[mine]:
        return "upward"
    if mine in ALLOWED_INSIDE and theirs not in ALLOWED_INSIDE[mine] | GROUND:
        return "which its room must not"
    return "which its floor must not" if (mine, theirs) in FORBIDDEN else ""


def test_imports_go_down_only_when_the_package_is_read() -> None:
    graph = read_imports(ROOT)
    assert len(graph) > 15
    assert "inspector.detection.tiling" in graph["inspector.detection.detector"]
    assert find_faults(graph) == []


def test_rooms_and_files_stay_small() -> None:
    for room in {path.parent for path in (ROOT / PACKAGE).rglob("*.py")}:
        assert len([path for path in room.glob("*.py") if path.name != "__init__.py"]) <= MOST_FILES, room
    for path in (ROOT / PACKAGE).rglob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= MOST_LINES or f"{MOST_LINES} lines" in "\n".join(lines[:12]), path


@pytest.mark.parametrize(
    ("graph", "fault"),
    [
        ({"inspector.model.a": {"inspector.cli.b"}, "inspector.cli.b": set()}, "upward"),
        ({"inspector.detection.a": {"inspector.recipe.b"}, "inspector.recipe.b": set()}, "upward"),
        ({"inspector.sinks.a": {"inspector.sources.b"}, "inspector.sources.b": set()}, "must not"),
        ({"inspector.service.a": {"inspector.training.b"}, "inspector.training.b": set()}, "must not"),
        ({"inspector.bridges.a": {"inspector.config.b"}, "inspector.config.b": set()}, "its room must not"),
        ({"inspector.console.a": {"inspector.service.b"}, "inspector.service.b": set()}, "must not"),
        ({"inspector.service.flow.a": {"inspector.service.http.b"}, "inspector.service.http.b": set()}, "upward"),
        ({"inspector.training.data.a": {"inspector.training.train"}, "inspector.training.train": set()}, "upward"),
        ({"inspector.model.a": {"inspector.model.b"}, "inspector.model.b": {"inspector.model.a"}}, "circle"),
        ({"inspector.model.a": {"inspector.errors"}}, "does not exist"),
        ({"inspector.gadget": set()}, "has no floor"),
    ],
)
def test_fault_is_found_when_an_import_breaks_a_rule(graph: Graph, fault: str) -> None:
    (message,) = find_faults(graph)
    assert fault in message


def test_imports_are_read_when_written_in_any_form(tmp_path: Path) -> None:
    source = (
        "import inspector.errors\nfrom inspector import types\nfrom . import sibling\nfrom ..tiling import Tiler\n"
        "def f():\n    from inspector.model import Thing\n    import numpy\n"
    )
    path = tmp_path / "one.py"
    path.write_text(source, encoding="utf-8")
    modules = {"inspector.types", "inspector.service.sibling", "inspector.tiling", "inspector.model"}
    assert find_imports("inspector.service.one", path, modules) == {
        "inspector.errors",
        "inspector.types",
        "inspector.service.sibling",
        "inspector.tiling",
        "inspector.model",
    }


def find_outsiders(source: str, floor: str) -> set[str]:
    """What a module of `floor` imports and must not, wherever in the file."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            named.add("." * node.level + (node.module or ""))
    mine = f"{PACKAGE}.{floor}"
    inside = {name for name in named if name == mine or name.startswith(f"{mine}.")}
    allowed = ALLOWED_OUTSIDE[floor] | sys.stdlib_module_names
    return {name for name in named - inside if name.partition(".")[0] not in allowed}


@pytest.mark.parametrize("floor", sorted(ALLOWED_OUTSIDE))
def test_floor_imports_only_what_it_is_allowed_when_it_must_run_without_the_rest(floor: str) -> None:
    files = sorted((ROOT / PACKAGE / floor).rglob("*.py"))
    assert files
    assert {file.name: find_outsiders(file.read_text(encoding="utf-8"), floor) for file in files} == {
        file.name: set() for file in files
    }


@pytest.mark.parametrize("line", ["import numpy", "from inspector.types import Reason", "from .. import types"])
def test_outsider_is_found_when_the_client_imports_it(line: str) -> None:
    assert find_outsiders("import json, zmq\nfrom inspector.client.events import Gap\n", "client") == set()
    assert len(find_outsiders(f"import zmq\ndef f():\n    {line}\n", "client")) == 1


def test_importing_the_client_brings_nothing_of_weight() -> None:
    code = (
        "import sys, inspector.client; heavy = {'torch', 'numpy', 'pydantic', 'cv2', 'yaml', 'timm', 'openvino'}; "
        "ours = {name for name in sys.modules if name.startswith('inspector.')}; "
        "print(sorted(heavy & set(sys.modules)), {name.split('.')[1] for name in ours})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] {'client'}"


def test_importing_the_package_is_light_when_nothing_else_is_asked() -> None:
    code = "import sys, inspector; print(sorted({'numpy', 'torch', 'cv2', 'timm', 'zmq'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_command_that_runs_no_network_starts_without_torch() -> None:
    code = (
        "import sys, inspector.cli.app; print(sorted({'torch', 'timm', 'matplotlib', 'openvino'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_station_starts_without_what_only_builds_networks() -> None:
    code = (
        "import sys, inspector.service.daemon, inspector.engine.openvino; "
        "print(sorted({'timm', 'torchvision', 'torch._dynamo', 'nncf', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
