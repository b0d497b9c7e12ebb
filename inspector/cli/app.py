"""The `inspector` program. Exit status: 0 success, 2 usage, 78 bad configuration, 130 interrupted, 1 anything else."""

from __future__ import annotations

import atexit
import codecs
import gc
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from inspector import __version__, logs
from inspector.cli import encoder, keys, online
from inspector.cli.bench import bench
from inspector.cli.calibrate import calibrate
from inspector.cli.cameras.command import cameras, snapshot
from inspector.cli.cameras.record import record
from inspector.cli.check.command import check
from inspector.cli.demo.command import demo
from inspector.cli.evaluate import evaluate
from inspector.cli.golden import golden
from inspector.cli.import_ import import_
from inspector.cli.init import init
from inspector.cli.inspect import inspect
from inspector.cli.journal import command as journal
from inspector.cli.orders import offline
from inspector.cli.orders.trigger import trigger
from inspector.cli.recipe import recipe
from inspector.cli.schema import schema
from inspector.cli.terminal.guide import find_page, locate_page
from inspector.cli.train import train
from inspector.errors import ConfigError, InspectorError

EX_CONFIG = 78

app = typer.Typer(
    name="inspector",
    help="Defect inspection with tiled Reverse Distillation: train on good parts, judge every frame "
    "before its deadline.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"inspector {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Print the version."),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Log more."),
) -> None:
    del version
    logs.set_up(verbose=verbose)


_COMMANDS: tuple[Callable[..., None], ...] = (
    demo,
    init,
    train,
    calibrate,
    evaluate,
    golden,
    inspect,
    online.run,
    check,
    cameras,
    snapshot,
    record,
    online.send,
    online.tail,
    recipe,
    offline.offline,
    offline.online,
    trigger,
    schema,
    bench,
)


def _name_page(command: str, error: InspectorError | None = None) -> str:
    return f"see {locate_page(find_page(command, error))}"


for _command in _COMMANDS:
    app.command(epilog=_name_page(_command.__name__))(_command)
app.command("import", epilog=_name_page("import"))(import_)
for _name, _group in {"encoder": encoder.app, "journal": journal.app, "keys": keys.app}.items():
    app.add_typer(_group, name=_name, epilog=_name_page(_name))


@app.command(hidden=True)  # for developers
def reference(folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the pages go.")]) -> None:
    """Write the pages of docs/reference: what the code knows of itself."""
    from inspector.cli.reference.pages import write_pages

    write_pages(app, folder)


def main() -> None:
    """Entry point: errors become one message on stderr, with the page that helps, and an exit status."""
    _write_any_name()
    atexit.register(gc.freeze)  # the process ends: nothing is left to collect, and with torch that takes 0.6 s
    try:
        app()
    except InspectorError as error:
        is_configuration = isinstance(error, ConfigError)
        command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
        heading = "bad configuration\n" if is_configuration else ""
        typer.echo(f"inspector: {heading}{error}\n{_name_page(command, error)}", err=True)
        sys.exit(EX_CONFIG if is_configuration else 1)
    except KeyboardInterrupt:
        sys.exit(130)


def _write_any_name() -> None:
    """What the terminal's encoding lacks, or a file name holds that is no text, is written escaped and ends nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not where it is closed
            # Typer takes ASCII for a locale that nobody chose, and writes UTF-8: with a ? for what is no text.
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding="utf-8" if ascii_only else None, errors="backslashreplace")


if __name__ == "__main__":
    main()
