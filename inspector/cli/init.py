"""`inspector init`: the files and folders that a new station begins with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from inspector.cli.terminal.guide import BY_COMMAND, locate_page
from inspector.errors import InspectorError
from inspector.sources.registry import KINDS
from inspector.strict.base import Name

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from inspector.config import Station
    from inspector.sources.settings import SourceSettings

STATION_FILE = "station.yaml"
_FOLDERS = ("recipes", "frames/good", "frames/bad")

_STATION = """\
# A station: one daemon, one device, any number of cameras. What is not said here has a default;
# docs/reference/station.md lists every field, and `inspector check` proves this file without starting the station.
# Relative paths are relative to this file.
schema: 1
station: {station}

state_dir: state                  # journal, evidence and compiled networks; as a service: /var/lib/inspector
device: auto                      # auto | cpu | cuda | cuda:N

# Sockets and pages are open to this machine only. Others need keys, and a login and certificate for the pages.
# sockets:
#   frames: tcp://127.0.0.1:5555    # frames come in here
#   imagezmq: tcp://127.0.0.1:5559  # or here, from senders that wait until a frame is on record
#   results: tcp://127.0.0.1:5556   # every verdict goes out here
# http: {{host: 127.0.0.1, port: 9108}}    # /metrics /live /ready

evidence:
  max_bytes: 20GiB                # images of what was not passed; the oldest PASS goes first
  pass_every: 100                 # one PASS in so many is kept, too

cameras:
  {camera}:
    recipe: {recipe}
    deadline_ms: 2000             # from reception to the published verdict; then ERROR DEADLINE
    # max_age_ms: deadline        # how old a frame may be when it comes; then ERROR STALE
    # expected_fps: 1             # frames per second that the line should send, for alerts
    source:
{source}
"""

_STEPS = """\
{folder} is ready. Next:

1. Put good frames into {folder}/frames/good: some hundred, as the camera takes them on the line.
   Defective ones, where there are some, go into {folder}/frames/bad; they are only used to test.
2. Train a recipe:
     inspector train {folder}/frames/good --out {folder}/{recipe} --minutes 60
3. Try it on single pictures, and look at the overlays:
     inspector inspect {folder}/{recipe} {folder}/frames/bad --overlays {folder}/looks
4. Have it prove itself at every start on frames of known verdict:
     inspector golden {folder}/{recipe} --good GOOD.png --bad BAD.png
5. Check the station, then run it:
     inspector check {folder}/{file}
     inspector run {folder}/{file}
6. See its verdicts, in another terminal:
     inspector tail
{frames}
More: {page}
"""
_SENT = """\
7. Send it frames; they count as simulated, so no part passes for them:
     inspector send {folder}/frames/good --camera {camera}
   A program sends its own with `inspector.client.Sender`.
"""
_FETCHED = """\
7. It takes its frames from the source in {folder}/{file}, cameras.{camera}.source: look at the values there.
"""


def _check_kind(kind: str) -> str:
    if kind not in KINDS:
        raise typer.BadParameter(f"must be one of {', '.join(KINDS)}, got {kind!r}")
    return kind


def _check_name(name: str | None) -> str | None:
    from pydantic import TypeAdapter, ValidationError

    if name is not None:
        try:
            TypeAdapter(Name).validate_python(name)
        except ValidationError as error:
            rule = "must be 1 to 64 of A-Z a-z 0-9 _ . -, the first a letter or digit"
            raise typer.BadParameter(f"{rule}, got {name!r}") from error
    return name


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to begin in; made where it is missing.")],
    source: Annotated[
        str, typer.Option(callback=_check_kind, help=f"Where the frames come from: {', '.join(KINDS)}.")
    ] = "zmq",
    camera: Annotated[str, typer.Option(callback=_check_name, help="Name of the camera.")] = "top",
    station: Annotated[
        str | None, typer.Option(callback=_check_name, help="Name of the station; the folder's by default.")
    ] = None,
) -> None:
    """Begin a station: write a commented station file for one camera, make its folders, and say what to do next.

    A folder that has a station file is refused.
    """
    from inspector.config import load_station

    if station is None:
        try:
            station = _check_name(folder.resolve().name)
        except typer.BadParameter as error:
            raise typer.BadParameter(f"required here: {error.message}", param_hint="'--station'") from error
    if (found := _find_station_file(folder)) is not None:
        raise InspectorError(f"{folder}: must be a folder without a station file, has {found.name}")
    settings, recipe = KINDS[source], f"recipes/{camera}"
    words = {"station": station, "camera": camera, "recipe": recipe}
    text = _STATION.format(
        **{name: _to_yaml(word) for name, word in words.items()}, source="\n".join(_list_fields(settings))
    )
    try:
        for name in _FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True)
        path = folder / STATION_FILE
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        loaded = load_station(path)
        _make_source_folder(loaded, folder)
    except OSError as error:
        raise InspectorError(f"{folder}: cannot be written: {error}") from error
    typer.echo(_describe_steps(loaded, folder, camera=camera, recipe=recipe), nl=False)


def _find_station_file(folder: Path) -> Path | None:
    """A YAML file there that has cameras, or the one that would be written."""
    for path in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml"))):
        if path.name == STATION_FILE or re.search(rb"^cameras:", path.read_bytes(), re.MULTILINE):
            return path
    return None


def _make_source_folder(station: Station, folder: Path) -> None:
    """Where frames are to be put, if it lies in the station's folder."""
    for camera in station.cameras.values():
        wanted = camera.source.folder
        if wanted is not None and wanted.is_relative_to(folder.resolve()):
            wanted.mkdir(parents=True, exist_ok=True)


def _describe_steps(station: Station, folder: Path, *, camera: str, recipe: str) -> str:
    is_sent = station.cameras[camera].source.is_sent
    names: dict[str, Any] = {"folder": quote(str(folder)), "camera": camera, "recipe": recipe, "file": STATION_FILE}
    return _STEPS.format(
        **names, frames=(_SENT if is_sent else _FETCHED).format(**names), page=locate_page(BY_COMMAND["init"])
    )


def _list_fields(settings: type[SourceSettings]) -> Iterator[str]:
    """Lines of `source`: each field with what it means; those that stay at their default are comments."""
    for name, field in settings.model_fields.items():
        if name == "type":
            (kind,) = (kind for kind, known in KINDS.items() if known is settings)
            yield _write_field("", name, kind, field)
        elif field.examples:
            yield _write_field("", name, field.examples[0], field)
        else:
            yield _write_field("# ", name, field.get_default(), field)


def _write_field(mark: str, name: str, value: Any, field: FieldInfo) -> str:
    written = f"      {mark}{name}: {_to_yaml(getattr(value, 'value', value))}"
    return f"{written:<33} # {' '.join(str(field.description).split())}"


def _to_yaml(value: Any) -> str:
    """A value as it stands in YAML, in quotes where it needs them."""
    return yaml.safe_dump(value, allow_unicode=True, width=1000).removesuffix("...\n").strip()
