"""`inspector golden`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspector.cli.terminal.options import Device, RecipeDir

if TYPE_CHECKING:
    from inspector.config import Recipe


def golden(
    recipe: RecipeDir,
    good: Annotated[
        list[Path],
        typer.Option(exists=True, dir_okay=False, metavar="FILE", help="A frame that must PASS. May be repeated."),
    ] = [],  # noqa: B006 (typer copies it)
    bad: Annotated[
        list[Path],
        typer.Option(exists=True, dir_okay=False, metavar="FILE", help="A frame that must FAIL. May be repeated."),
    ] = [],  # noqa: B006
    clear: Annotated[bool, typer.Option("--clear", help="Remove all stored golden frames.")] = False,
    device: Device = "auto",
) -> None:
    """Add or check golden frames: frames with a known verdict, which the daemon must reproduce at every start.

    Given frames are copied into the recipe; each must get its verdict now. Without any, the stored ones are checked.
    """
    from inspector.config import load_recipe
    from inspector.device import choose_device
    from inspector.recipe.golden import prove_golden
    from inspector.recipe.opening import open_detector
    from inspector.training.golden import KnownFrame, update_golden

    if good or bad or clear:
        frames = [KnownFrame(path, "PASS") for path in good] + [KnownFrame(path, "FAIL") for path in bad]
        _show(update_golden(recipe, frames, clear=clear, device=device))
        return
    loaded = load_recipe(recipe)
    _show(loaded)
    if loaded.golden:
        prove_golden(open_detector(recipe, device=choose_device(device), recipe=loaded), recipe)
        typer.echo(f"checked: each of the {len(loaded.golden)} golden frames gets its verdict")


def _show(recipe: Recipe) -> None:
    for each in recipe.golden:
        score = "" if each.score is None else f", score {each.score:.6g} when stored"
        typer.echo(f"{each.verdict} {each.file}{score}")
    if not recipe.golden:
        typer.echo(f"recipe {recipe.recipe_id} has no golden frames; add some with --good FILE and --bad FILE")
