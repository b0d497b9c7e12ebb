"""`inspector encoder`: the pretrained encoder's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inspector.cli.terminal.options import check_backbone

app = typer.Typer(help="Pretrained encoder weights, for machines without a network.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Pretrained encoder weights, for machines without a network."""


@app.command()
def fetch(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            callback=check_backbone,
            help="resnet18 … wide_resnet101_2; a timm tag may follow; default: the paper's weights (.tv_in1k).",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write to.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that has other contents.")] = False,
) -> None:
    """Download ImageNet weights to a file, for `train --encoder-weights FILE` on a machine without a network."""
    from inspector.model.encoder_file import fetch_encoder

    fetched = fetch_encoder(name, out, force=force)
    architecture, _, tag = fetched.name.partition(".")
    typer.echo(f"{architecture}, tag {tag}: {out}, {fetched.bytes} bytes, sha256 {fetched.sha256}")
