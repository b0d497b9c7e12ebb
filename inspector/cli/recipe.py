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
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds the daemon may take to prepare it.")] = 600.0,
    key: ClientKeyFile = None,
) -> None:
    """Have a running daemon judge a camera with another recipe, until it is restarted. No frame waits for it."""
    from rich.console import Console

    # As the daemon must find it: what is relative here is not relative there.
    order = {"camera": camera, "recipe": str(recipe.resolve())}
    with Daemon(requests, key) as daemon:
        asked = daemon.ask("recipe", action="prepare", **order)["id"]
        console = Console(stderr=True)
        with console.status(f"camera {camera}: {recipe} is being loaded and proves itself"):
            _wait(daemon, camera, asked, time.monotonic() + timeout)
        switched = daemon.ask("recipe", action="switch", camera=camera, id=asked)
        now = daemon.ask("recipe", action="status")["recipes"][camera]
    if now["recipe_sha256"] != switched["recipe_sha256"]:
        raise InspectorError(f"camera {camera}: switched, and again since then: judged with {now['folder']} now")
    typer.echo(f"camera {camera}: judged with {now['recipe_id']} from {now['folder']}")
    if not now["from_station_file"]:
        typer.echo("until the daemon restarts or reloads: its station file names another recipe", err=True)


def _wait(daemon: Daemon, camera: str, asked: str, deadline: float) -> None:
    """Until what was asked for, by its id, is prepared."""
    while True:
        change = daemon.ask("recipe", action="status")["last_switch"][camera]
        if change["id"] != asked:
            raise InspectorError(f"camera {camera}: {change['who']} asked for {change['recipe']} meanwhile")
        if change["state"] == "refused":
            raise InspectorError(f"camera {camera}: the recipe is refused, the one before stays\n{change['error']}")
        if change["state"] != "preparing":
            return
        if time.monotonic() > deadline:
            raise InspectorError(f"camera {camera}: the recipe is still being prepared; the daemon goes on with it")
        time.sleep(_POLL_S)
