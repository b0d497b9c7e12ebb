"""Change the recipe of a running daemon's camera: prepare, wait, switch."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from inspector.cli.terminal.asking import Daemon
from inspector.cli.terminal.options import ClientKeyFile, RecipeDir
from inspector.errors import InspectorError

REQUESTS_ENDPOINT = "tcp://127.0.0.1:5558"
_POLL_S = 0.2


def recipe(
    camera: Annotated[str, typer.Argument(metavar="CAMERA", help="Camera name in the station file.")],
    recipe: RecipeDir,
    requests: Annotated[str, typer.Option(help="The daemon's requests endpoint.")] = REQUESTS_ENDPOINT,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds to wait for the daemon to prepare the recipe.")
    ] = 600.0,
    key: ClientKeyFile = None,
) -> None:
    """Switch a camera of a running daemon to another recipe, until the next restart. No frame waits for it."""
    from rich.console import Console

    # As the daemon must find it: what is relative here is not relative there.
    order = {"camera": camera, "recipe": str(recipe.resolve())}
    with Daemon(requests, key) as daemon:
        asked = daemon.ask("recipe", action="prepare", **order)["id"]
        console = Console(stderr=True)
        with console.status(f"camera {camera}: {recipe} is being loaded and checked"):
            _wait(daemon, camera, asked, time.monotonic() + timeout)
        switched = daemon.ask("recipe", action="switch", camera=camera, id=asked)
        now = daemon.ask("recipe", action="status")["recipes"][camera]
    if now["recipe_sha256"] != switched["recipe_sha256"]:
        raise InspectorError(
            f"camera {camera}: switched, but switched again since then: now judged with {now['folder']}"
        )
    typer.echo(f"camera {camera}: now judged with {now['recipe_id']} from {now['folder']}")
    if not now["from_station_file"]:
        typer.echo("only until the daemon restarts or reloads, since its station file names another recipe", err=True)


def _wait(daemon: Daemon, camera: str, asked: str, deadline: float) -> None:
    """Until what was asked for, by its id, is prepared."""
    while True:
        change = daemon.ask("recipe", action="status")["last_switch"][camera]
        if change["id"] != asked:
            raise InspectorError(f"camera {camera}: {change['who']} requested {change['recipe']} in the meantime")
        if change["state"] == "refused":
            raise InspectorError(
                f"camera {camera}: the recipe was refused, the previous one stays in use\n{change['error']}"
            )
        if change["state"] != "preparing":
            return
        if time.monotonic() > deadline:
            raise InspectorError(f"camera {camera}: the recipe is still being prepared; the daemon continues")
        time.sleep(_POLL_S)
