"""cli.md: every command, from the functions and annotations that Typer makes the program of."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from inspector.cli.reference.markdown import build_page, build_table, join_lines

_HEADINGS = ("argument or option", "value", "default", "meaning")
_TYPES: dict[Any, str] = {Path: "path", str: "text", int: "whole number", float: "number"}
_PLAIN = "\b\n"
"""What a paragraph of a docstring begins with whose lines stay as they are: examples."""

Command = Callable[..., Any]


class Parameter(NamedTuple):
    """One argument or option of a command.

    Attributes:
        name: of the function's parameter.
        annotation: its type, without what Typer is told.
        info: what Typer is told.
        default: `inspect.Parameter.empty` where it is required.
    """

    name: str
    annotation: Any
    info: ArgumentInfo | OptionInfo
    default: Any

    @property
    def is_argument(self) -> bool:
        """Whether it is told by its place."""
        return isinstance(self.info, ArgumentInfo)

    @property
    def is_required(self) -> bool:
        """Whether it must be given."""
        return self.default is inspect.Parameter.empty


def build_commands(program: typer.Typer) -> str:
    """All commands that are not hidden: help, arguments, options with their defaults; exit statuses."""
    callback = program.registered_callback
    assert callback is not None  # noqa: S101 (the options of all commands)
    assert callback.callback is not None  # noqa: S101
    module = inspect.getmodule(callback.callback)
    statuses = str(module and module.__doc__).partition("Exit status: ")[2].strip()
    page = build_page(
        "inspector",
        str(program.info.help),
        f"Exit status: {statuses}",
        "`inspector COMMAND --help` tells the same in the terminal. These options stand before the command:",
    )
    listed = "".join(_show_command(name, command) for name, command in _list_commands(program))
    return page + _build_options(callback.callback) + listed


def _list_commands(program: typer.Typer, above: str = "inspector") -> Iterator[tuple[str, Command]]:
    for command in program.registered_commands:
        if not command.hidden and command.callback is not None:
            yield f"{above} {command.name or command.callback.__name__.strip('_').replace('_', '-')}", command.callback
    for group in program.registered_groups:
        if group.typer_instance is not None:
            yield from _list_commands(group.typer_instance, f"{above} {group.name}")


def _show_command(name: str, command: Command) -> str:
    parameters = _list_parameters(command)
    words = [_name(each) for each in parameters if each.is_argument]
    needed = [f"{_name(each)} …" for each in parameters if each.is_required and not each.is_argument]
    may = ["[OPTIONS]"] if any(not (each.is_argument or each.is_required) for each in parameters) else []
    usage = " ".join([name, *words, *needed, *may])
    text = "\n\n".join(map(_show_paragraph, inspect.cleandoc(str(command.__doc__)).split("\n\n")))
    table = f"\n{_build_options(command)}" if parameters else ""
    return f"\n## {name}\n\n```\n{usage}\n```\n\n{text}\n{table}"


def _show_paragraph(paragraph: str) -> str:
    if paragraph.startswith(_PLAIN):
        return f"```\n{inspect.cleandoc(paragraph.removeprefix(_PLAIN))}\n```"
    return join_lines(paragraph)


def _build_options(command: Command) -> str:
    rows = [
        (f"`{_name(each)}`", _describe_value(each), _describe_default(each), str(each.info.help or ""))
        for each in _list_parameters(command)
    ]
    return build_table(_HEADINGS, rows)


def _list_parameters(command: Command) -> list[Parameter]:
    hints = get_type_hints(command, include_extras=True)
    found = []
    for name, parameter in inspect.signature(command).parameters.items():
        annotation, default = hints[name], parameter.default
        if isinstance(default, ArgumentInfo | OptionInfo):  # the older way to tell Typer
            found.append(Parameter(name, annotation, default, default.default))
        elif get_origin(annotation) is Annotated:
            kind, info = get_args(annotation)[:2]
            found.append(Parameter(name, kind, info, default))
    return found


# ------------------------------------------------------------ one of them


def _name(parameter: Parameter) -> str:
    plain = parameter.name.strip("_")
    if parameter.is_argument:
        metavar = parameter.info.metavar or plain.upper()
        return metavar if parameter.is_required or metavar.startswith("[") else f"[{metavar}]"
    # Beside an annotation the first name that is declared stands where a default stands else.
    decls = (parameter.info.default, *(parameter.info.param_decls or ()))
    declared = [each for each in decls if isinstance(each, str) and each.startswith("-")]
    option = plain.replace("_", "-")
    return ", ".join(declared) or (f"--{option}/--no-{option}" if parameter.annotation is bool else f"--{option}")


def _describe_value(parameter: Parameter) -> str:
    info, (kind, may_repeat) = parameter.info, _unwrap(parameter.annotation)
    if info.metavar and not parameter.is_argument:
        told = f"`{info.metavar}`"
    elif get_origin(kind) is tuple:
        told = f"{len(get_args(kind))} times {_TYPES[get_args(kind)[0]]}"
    elif get_origin(kind) is Literal:
        told = ", ".join(f"`{each}`" for each in get_args(kind))
    elif isinstance(kind, type) and issubclass(kind, Enum):
        told = ", ".join(f"`{each.value}`" for each in kind)
    elif kind is bool:
        told = "flag"
    else:
        told = _TYPES[kind]
    repeated = ["repeatable"] if may_repeat else []
    return ", ".join([told, *_describe_range(info.min, info.max), *repeated])


def _describe_range(low: float | None, high: float | None) -> list[str]:
    if low is not None and high is not None:
        return [f"{low:,} to {high:,}"]
    return [f"at least {low:,}"] if low is not None else [f"at most {high:,}"] if high is not None else []


def _unwrap(annotation: Any) -> tuple[Any, bool]:
    """A type without None and without a list around it, and whether there was one."""
    if get_origin(annotation) in {Union, types.UnionType}:
        (annotation,) = (each for each in get_args(annotation) if each is not type(None))
    if get_origin(annotation) is list:
        return get_args(annotation)[0], True
    return annotation, False


def _describe_default(parameter: Parameter) -> str:
    if parameter.is_required:
        return "*required*"
    default = parameter.default
    if default is None or default is False or default in ([], ()):
        return ""
    return f"`{' '.join(map(str, default)) if isinstance(default, tuple) else default}`"
