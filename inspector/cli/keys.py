"""`inspector keys`: who may connect to a station with `security`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspector.errors import ConfigError, InspectorError

if TYPE_CHECKING:
    from inspector.config import Security, Station
    from inspector.security.keys import Client

_DAY_S = 86_400

app = typer.Typer(help="Client keys: new, list, revoke.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Client keys. A running daemon applies every change by itself."""


StationFile = Annotated[
    Path, typer.Option("--station", metavar="STATION.yaml", help="The station file; it must have a security section.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Who uses the key, such as camera-pc-2 or anna.")]


@app.command()
def new(
    name: Name,
    station: StationFile,
    role: Annotated[
        list[str],
        typer.Option(
            help="sender, subscriber, requester (status, replay) or operator (all requests). May be repeated."
        ),
    ],
    camera: Annotated[
        list[str] | None, typer.Option(help="Camera whose frames a sender may send; default: all. May be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The client's key file to write; default: NAME.key.")] = None,
    station_key: Annotated[
        Path | None,
        typer.Option(
            help="File with the station's secret key, if the station file refers to a credential or variable."
        ),
    ] = None,
) -> None:
    """Create a key for a client and add it to the list. Also creates the station's own key and the list if missing."""
    import zmq

    from inspector.client.keys import ClientKey
    from inspector.files import write_whole
    from inspector.security.keys import Role, edit_clients, read_station_key

    loaded, security = _load(station)
    if unknown := set(role) - set(Role):
        raise typer.BadParameter(f"must be one of {', '.join(Role)}, got {sorted(unknown)}", param_hint="'--role'")
    if camera and Role.SENDER not in role:
        raise typer.BadParameter("must only be given with --role sender", param_hint="'--camera'")
    out = out or Path(f"{name}.key")
    if out.exists():
        raise typer.BadParameter(f"must be a new file, got {out}", param_hint="'--out'")
    if unknown := set(camera or ()) - set(loaded.cameras):
        raise typer.BadParameter(
            f"must be one of {list(loaded.cameras)}, got {sorted(unknown)}", param_hint="'--camera'"
        )
    reference = _find_station_key(security, station_key)
    public, secret = (key.decode() for key in zmq.curve_keypair())
    with edit_clients(security.clients) as clients:
        if any(client.name == name for client in clients):
            raise typer.BadParameter(f"must be a name that no key has used, got {name!r}", param_hint="NAME")
        clients.append(_build_client(name, public, role, camera))
        station_public = read_station_key(reference)[0].decode()
        key = ClientKey(name, loaded.station, station_public, public, secret)
        write_whole(out, key.dump().encode(), mode=0o600)
    typer.echo(f"{out}: key of {name}. Move it to the client's machine with mode 0600 and keep no copy here. Use:")
    typer.echo(f"  inspector send|tail|recipe --key FILE, or Subscriber(…, station={loaded.station!r}, key=FILE)")
    for socket in _sockets_of(role):
        typer.echo(f"  {socket}: {getattr(loaded.sockets, socket)}")


@app.command("list")
def list_(station: StationFile) -> None:
    """Show who may connect, with which roles, and how old the keys are."""
    from rich.console import Console
    from rich.table import Table

    from inspector.security.keys import load_clients

    loaded, security = _load(station)
    table = Table("name", "roles", "cameras", "age", "revoked", title=f"station {loaded.station}")
    for client in load_clients(security.clients):
        cameras = "" if client.cameras is None else ", ".join(client.cameras)
        age = f"{(time.time() - client.created.timestamp()) / _DAY_S:.0f} days"
        revoked = "" if client.revoked is None else f"[red]{client.revoked:%Y-%m-%d %H:%M} UTC[/]"
        table.add_row(client.name, ", ".join(client.roles), cameras, age, revoked)
    Console().print(table)


@app.command()
def revoke(name: Name, station: StationFile) -> None:
    """Revoke a client's key: within a second, nothing that the client sends is accepted."""
    from inspector.security.keys import edit_clients

    _, security = _load(station)
    with edit_clients(security.clients) as clients:
        numbers = [number for number, client in enumerate(clients) if client.name == name]
        if not numbers:
            raise typer.BadParameter(f"must be one of {[client.name for client in clients]}, got {name!r}")
        client = clients[numbers[0]]
        if client.is_revoked:
            raise InspectorError(f"{name} was already revoked, at {client.revoked:%Y-%m-%d %H:%M} UTC")
        clients[numbers[0]] = client.model_copy(update={"revoked": _now()})
    typer.echo(f"{name} is revoked. A subscriber that is still connected keeps receiving until the station restarts.")


def _load(path: Path) -> tuple[Station, Security]:
    from inspector.config import load_station

    station = load_station(path)
    if station.security is None:
        section = "security: {key: keys/station.key, clients: keys/clients.yaml}"
        raise ConfigError(f"{path}: security: required, but missing; add\n{section}")
    return station, station.security


def _find_station_key(security: Security, file: Path | None) -> str:
    """Where the station's secret key is; made where it is missing."""
    from inspector.security.keys import make_station_key

    if file is None and security.key.startswith(("credential:", "env:")):
        rule = f"required if the station file has security.key: {security.key}"
        raise typer.BadParameter(rule, param_hint="'--station-key'")
    path = Path(security.key) if file is None else file.resolve()
    if not security.key.startswith(("credential:", "env:")) and path != Path(security.key).resolve():
        rule = f"must be the station file's security.key, {security.key}, or be left out; got {path}"
        raise typer.BadParameter(rule, param_hint="'--station-key'")
    if not path.exists():
        make_station_key(path)
        typer.echo(f"{path}: new secret key of the station. Only the station needs it; keep a copy in a safe place.")
    return str(path)


def _build_client(name: str, public_key: str, roles: list[str], cameras: list[str] | None) -> Client:
    from pydantic import ValidationError

    from inspector.security.keys import Client

    fields = {"name": name, "public_key": public_key, "roles": roles, "cameras": cameras or None, "created": _now()}
    try:
        return Client.model_validate(fields)
    except ValidationError as error:
        fault = error.errors()[0]  # of the name: the rest is made or looked at above
        raise typer.BadParameter(f"{fault['msg']}, got {fault['input']!r}", param_hint="NAME") from error


def _sockets_of(roles: list[str]) -> list[str]:
    from inspector.security.gate import SOCKET_ROLES

    return [socket for socket, wanted in SOCKET_ROLES.items() if wanted & set(roles)]


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
