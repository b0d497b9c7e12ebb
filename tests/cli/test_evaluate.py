"""`inspector evaluate`: what it prints, what it writes, how it ends."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from inspector.cli import evaluate as evaluate_command
from inspector.cli.app import app
from inspector.config import Recipe
from inspector.training.evaluation import evaluate as evaluation_module
from inspector.training.evaluation.evaluate import Evaluation
from inspector.training.evaluation.image_metrics import compute_image_metrics
from inspector.training.evaluation.samples import Sample
from inspector.types import Verdict


@pytest.fixture
def evaluation(monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    """What the command is given instead of measuring."""
    no_pixels = {"pixel_auroc": None, "aupro": None, "aupro_0_05": None}
    metrics = compute_image_metrics(["good", "[red]"], [0.1, 0.9], 0.5) | no_pixels
    metrics |= {"by_label": {}, "duplicates_of_training": None}
    metrics["by_kind"]["[red]"] |= no_pixels
    recipe = Recipe(recipe_id="random", backbone="resnet18", weights_sha256="0" * 64)
    sample = Sample(Path("set/test/good/0.png"), "good", 0.1, Verdict.PASS, None, (8, 8), 0.1)
    made = Evaluation(recipe, Path("set"), 0.5, metrics, (sample,))
    monkeypatch.setattr(evaluation_module, "evaluate", lambda *args, **kwargs: made)
    return made


def test_metrics_are_printed_with_intervals_and_kinds_as_they_are_named(evaluation: Evaluation) -> None:
    done = CliRunner().invoke(app, ["evaluate", "recipe", "set"])
    assert done.exit_code == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "│" in line]
    assert ["false_reject_rate", "0.0000", "0.000–0.975"] in rows
    assert ["[red]", "1", "1.000", "0.000", "0.000–0.975", "None", "None", "None"] in rows
    assert ["n_duplicates_of_training", "not known", ""] in rows


def test_table_of_kinds_fits_a_terminal_of_80_columns() -> None:
    row = {"n": 40, "image_auroc": 0.94, "escape_rate": 0.5, "escape_interval": [0.1, 0.9], "pixel_auroc": 0.99}
    file = io.StringIO()
    console = Console(width=80, file=file)
    console.print(evaluate_command._list_rows("kind", {"blowhole": row | {"aupro": 0.9, "aupro_0_05": 0.8}}))
    lines = file.getvalue().splitlines()
    assert {line[-1] for line in lines} == set("┓┃┩│┘")
    assert {len(line) for line in lines} == {len(lines[0])}


def test_metrics_and_frames_are_written_as_json(evaluation: Evaluation, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["evaluate", "recipe", "set", "--json", str(tmp_path / "metrics.json")])
    assert done.exit_code == 0
    written = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert written == evaluation.to_json()
    assert written["frames"] == [{"path": "test/good/0.png", "kind": "good", "score": 0.1, "verdict": "PASS"}]


@pytest.mark.parametrize("option", ["--json", "--report"])
def test_target_is_refused_before_anything_is_measured_when_it_cannot_be_a_file(option: str, tmp_path: Path) -> None:
    for target in (tmp_path, tmp_path / "missing" / "file"):
        done = CliRunner().invoke(app, ["evaluate", "recipe", "set", option, str(target)])
        assert done.exit_code == 2
        assert "must be a file in a folder that exists" in " ".join(done.stderr.replace("│", " ").split())
