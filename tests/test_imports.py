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
    "types",
    "codec",
    "secret",
    "logs",
    "config",
    "keys",
    "ipc",
    "sockets",
    "farewell",
    "access",
    "model",
    "tiling",
    "decision",
    "masks",
    "device",
    "preprocessing",
    "looks",
    "recipe_network",
    "engine",
    "detector",
    "golden",
    "training",
    "sources",
    "sinks",
    "service",
    "client",
    "cli",
    "__main__",
)
FORBIDDEN = {
    ("sources", "sinks"),
    ("sources", "training"),
    ("sinks", "sources"),
    ("sinks", "training"),
    ("service", "training"),
}

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


def find_faults(graph: Graph) -> list[str]:
    faults = []
    height = {PACKAGE: -1} | {floor: number for number, floor in enumerate(FLOORS)}
    for module, targets in sorted(graph.items()):
        mine = floor_of(module)
        if mine not in height:
            faults.append(f"{module}: has no floor; add it to FLOORS")
            continue
        for target in sorted(targets):
            theirs = floor_of(target)
            if target not in graph:
                faults.append(f"{module} imports {target}, which does not exist")
            elif height.get(theirs, 0) > height[mine]:
                faults.append(f"{module} imports {target}, upward")
            elif (mine, theirs) in FORBIDDEN:
                faults.append(f"{module} imports {target}, which its floor must not")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        faults.append(f"circle: {' → '.join(error.args[1])}")
    return faults


def test_imports_go_down_only_when_the_package_is_read() -> None:
    graph = read_imports(ROOT)
    assert len(graph) > 15
    assert "inspector.tiling" in graph["inspector.detector"]
    assert find_faults(graph) == []


@pytest.mark.parametrize(
    ("graph", "fault"),
    [
        ({"inspector.model.a": {"inspector.cli.b"}, "inspector.cli.b": set()}, "upward"),
        ({"inspector.decision": {"inspector.detector"}, "inspector.detector": set()}, "upward"),
        ({"inspector.sinks.a": {"inspector.sources.b"}, "inspector.sources.b": set()}, "must not"),
        ({"inspector.service.a": {"inspector.training.b"}, "inspector.training.b": set()}, "must not"),
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


def test_a_station_starts_without_what_only_builds_networks() -> None:
    code = (
        "import sys, inspector.service.daemon, inspector.engine.openvino; "
        "print(sorted({'timm', 'torchvision', 'torch._dynamo', 'nncf', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
