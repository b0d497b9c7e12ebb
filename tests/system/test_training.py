"""Training as a process that is killed and goes on."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

STEPS = 20


@pytest.fixture(scope="module")
def good_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    for number in range(10):
        image = np.random.default_rng(number).integers(80, 120, (96, 128, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), image)
    return folder


def start(good_dir: Path, out: Path, *more: str, file_bytes: int | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "inspector", "train", str(good_dir), "--out", str(out)]
    command += ["--encoder-weights", "none", "--tile-size", "64", "--sigma", "2", "--batch-size", "2"]
    command += ["--steps", str(STEPS), "--qualification", "0", "--device", "cpu", *more]
    limit = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))) if file_bytes else None
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=limit,  # noqa: PLW1509 (no threads here)
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


def test_kill_9_in_the_middle_then_resume_gives_the_weights_of_a_run_that_was_not_killed(
    good_dir: Path, tmp_path: Path
) -> None:
    killed = start(good_dir, tmp_path / "killed")
    checkpoint = tmp_path / ".killed-training" / "checkpoint.pt"
    limit = time.monotonic() + 180
    while not checkpoint.is_file():
        assert killed.poll() is None, killed.communicate()[0]
        assert time.monotonic() < limit
        time.sleep(0.02)
    killed.kill()
    killed.communicate()
    assert not (tmp_path / "killed").exists()
    reached = torch.load(checkpoint, weights_only=True)["state"]
    assert f'"step": {STEPS},' not in reached  # it was in the middle
    finish(start(good_dir, tmp_path / "killed", "--resume"))
    finish(start(good_dir, tmp_path / "whole"))
    whole, resumed = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert not checkpoint.parent.exists()


def _read(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_disk_that_takes_no_weights_leaves_the_recipe_that_was_there(good_dir: Path, tmp_path: Path) -> None:
    finish(start(good_dir, tmp_path / "recipe", "--steps", "2"))
    before = _read(tmp_path / "recipe")
    process = start(good_dir, tmp_path / "recipe", "--steps", "2", "--seed", "1", file_bytes=1_000_000)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 1, output
    assert "the training state cannot be saved, training continues without it" in output
    assert "recipe cannot be written, so nothing there was changed" in " ".join(output.split())
    assert _read(tmp_path / "recipe") == before
    left = [path.name for path in tmp_path.iterdir() if path.name not in ("recipe", ".recipe-training")]
    assert left == []
