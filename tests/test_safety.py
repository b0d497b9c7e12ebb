"""Nothing that is read can run code: no pickle, no eval, no shell anywhere in the package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "inspector"

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "commands", "pty"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {
    "os": {"system", "popen", "spawnl", "spawnlp", "spawnv", "spawnvp", "execl", "execlp", "execv", "execvp"},
    "subprocess": {"getoutput", "getstatusoutput"},
    "asyncio": {"create_subprocess_shell"},
    "yaml": {"unsafe_load", "full_load", "unsafe_load_all", "full_load_all"},
    "builtins": BUILTINS,
}
SAFE_YAML = {"SafeLoader", "CSafeLoader"}


def find_dangers(source: str) -> Iterator[str]:
    """What in a module could run what it is given, a line each."""
    for node in ast.walk(ast.parse(source)):
        for danger in (*_find_names(node), *(_find_calls(node) if isinstance(node, ast.Call) else ())):
            yield f"line {node.lineno}: {danger}"  # type: ignore[attr-defined]


def _find_names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES)
    elif isinstance(node, ast.ImportFrom):
        module = node.module or ""
        if module.partition(".")[0] in MODULES:
            yield module
        yield from (f"{module}.{alias.name}" for alias in node.names if alias.name in ATTRIBUTES.get(module, ()))
    elif isinstance(node, ast.Name) and node.id in BUILTINS:
        yield node.id
    elif isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES.get(ast.unparse(node.value), ()):
        yield ast.unparse(node)


def _find_calls(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if given.get("shell", "False") != "False":
        yield f"{name}(shell=…)"
    if given.get("allow_pickle", "False") != "False":
        yield f"{name}(allow_pickle=…)"
    if name in {"torch.load", "torch.hub.load"} and given.get("weights_only") != "True":
        yield f"{name} without weights_only=True"
    if name.startswith("yaml.") and name.removeprefix("yaml.") in {"load", "load_all", "compose", "parse"}:
        loader = given.get("Loader", ast.unparse(call.args[1]) if len(call.args) > 1 else "")
        if loader.rpartition(".")[2] not in SAFE_YAML:
            yield f"{name} without SafeLoader"


def test_no_file_of_the_package_could_run_what_it_reads() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 100
    found = {str(path.relative_to(PACKAGE)): list(find_dangers(path.read_text(encoding="utf-8"))) for path in files}
    assert {name: dangers for name, dangers in found.items() if dangers} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import numpy, joblib.memory",
        "from marshal import loads",
        "def f():\n    import shelve",
        "eval(x)",
        "exec(x)",
        "run = eval",
        "__import__(x)",
        "os.system(x)",
        "os.popen(x)",
        "from os import system",
        "from yaml import unsafe_load",
        "subprocess.run(x, shell=True)",
        "Popen(x, shell=wanted)",
        "subprocess.getoutput(x)",
        "yaml.load(x)",
        "yaml.load(x, yaml.FullLoader)",
        "yaml.load(x, Loader=yaml.UnsafeLoader)",
        "torch.load(x)",
        "torch.load(x, weights_only=False)",
        "np.load(x, allow_pickle=True)",
    ],
)
def test_danger_is_found(line: str) -> None:
    assert len(list(find_dangers(f"import os\n{line}\n"))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "model.eval()",
        "program.compile(x)",
        "re.compile(x)",
        "yaml.safe_load(x)",
        "yaml.load(x, Loader=yaml.SafeLoader)",
        "torch.load(x, map_location='cpu', weights_only=True)",
        "subprocess.run([x], shell=False)",
        "np.load(x)",
    ],
)
def test_no_danger_is_found_where_there_is_none(line: str) -> None:
    assert list(find_dangers(line)) == []
