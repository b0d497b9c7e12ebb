"""`inspector encoder`: the pretrained encoder's weights."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from inspector.cli.terminal.options import check_backbone

app = typer.Typer(help="Pretrained encoder weights, for machines without network.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Pretrained encoder weights, for machines without network."""


@app.command()
def fetch(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            callback=check_backbone,
            help="resnet18 … wide_resnet101_2; a timm tag may follow, the paper's weights (.tv_in1k) otherwise.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that holds something else.")] = False,
) -> None:
    """Fetch ImageNet weights to a file, which `train --encoder-weights FILE` takes on a machine without network."""
    from inspector.model.encoder_file import fetch_encoder

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # without network it warns of each of ten attempts
    typer.echo(f"fetching {name} … (gives up within a minute or so where there is no network)", err=True)
    fetched = fetch_encoder(name, out, force=force)
    architecture, _, tag = fetched.name.partition(".")
    typer.echo(f"{architecture}, tag {tag}: {out}, {fetched.bytes} bytes, sha256 {fetched.sha256}")
