"""The report: self-contained, escaped, honest about what it shows, and sound in a browser."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from inspector.cli.app import app
from inspector.config import Threshold, dump_recipe, load_recipe
from inspector.detection.run import Judgement
from inspector.errors import InspectorError
from inspector.files import compute_sha256
from inspector.recipe.opening import open_detector
from inspector.training.evaluation.evaluate import Evaluation, evaluate
from inspector.training.evaluation.report import (
    describe_bound,
    flatten,
    select_escapes,
    select_false_rejects,
    write_report,
)
from inspector.training.evaluation.samples import Sample
from inspector.types import PixelFormat, Verdict

HOSTILE = "<script>alert(1)<-script>&'\"{{7*7}}"
VOID = {"meta", "img", "br", "path", "rect", "use", "circle", "line"}


class _Page(HTMLParser):
    """Every tag with its attributes, all text, and whether tags close in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def pictures(self, alt: str) -> list[np.ndarray[Any, Any]]:
        sources = [attributes["src"] for tag, attributes in self.tags if tag == "img" and attributes["alt"] == alt]
        return [
            cv2.imdecode(np.frombuffer(base64.b64decode(str(source).partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
            for source in sources
        ]


def _draw(pixels: Any, pixel_format: PixelFormat, judgement: Judgement) -> Any:
    """Stands for the overlay: the frame's negative."""
    assert pixel_format is PixelFormat.RGB8
    assert judgement.anomaly_map.shape == pixels.shape[:2]
    return 255 - pixels[..., ::-1]


@pytest.fixture
def recipe_dir(threshold_recipe_dir: Path, tmp_path: Path) -> Path:
    """A recipe that knows how it was trained."""
    folder = shutil.copytree(threshold_recipe_dir, tmp_path / "recipe")
    history = [{"tiles_seen": 16 * n, "loss": 1 / n, "validation_loss": None, "learning_rate": 5e-3} for n in (1, 2)]
    (folder / "training.json").write_text(json.dumps({"history": history, "frames": {}}), encoding="utf-8")
    return folder


def _report(recipe_dir: Path, dataset_dir: Path, out: Path) -> tuple[Evaluation, str]:
    evaluation = evaluate(recipe_dir, dataset_dir, device="cpu")
    return evaluation, _write(evaluation, recipe_dir, out)


def _write(evaluation: Evaluation, recipe_dir: Path, out: Path) -> str:
    write_report(out, evaluation, recipe_dir, open_detector(recipe_dir, device=torch.device("cpu")), _draw)
    return out.read_text(encoding="utf-8")


def _set_threshold(recipe_dir: Path, value: float) -> None:
    recipe = load_recipe(recipe_dir)
    threshold = Threshold(value=value, method="order_statistic", n_good=40, false_reject_bound=0.0722)
    text = dump_recipe(recipe.model_copy(update={"threshold": threshold}))
    (recipe_dir / "recipe.yaml").write_text(text, encoding="utf-8")


def test_report_is_one_well_formed_file_that_asks_for_nothing(
    recipe_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    evaluation, html = _report(recipe_dir, dataset_dir, tmp_path / "report.html")
    page = _Page(html)
    assert page.open == []
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed"}
        for name in ("src", "href", "xlink:href", "srcset", "poster", "data"):
            assert str(attributes.get(name, "#")).startswith(("data:image/", "#"))
    assert not re.search(r"url\((?!#)|@import", html)
    for text in (
        "random: evaluation on dataset",
        compute_sha256(recipe_dir / "recipe.yaml"),
        evaluation.recipe.weights_sha256,
        f"{evaluation.metrics['image_auroc']:.4f}",
        f"{evaluation.metrics['aupro_0_05']:.4f}",
        "The threshold was set manually",
        "95 % interval",
        "Defective frames that pass, lowest score first.",
        "No good frame fails. The frames nearest to the threshold:",
        "map_normalisation",
        "learning rate",
    ):
        assert text in page.text
    assert sum(tag == "svg" for tag, _ in page.tags) == 3
    assert not list(tmp_path.glob(".report*"))


def test_worst_frames_are_shown_as_overlay_beside_mask_and_crop(
    recipe_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    evaluation, html = _report(recipe_dir, dataset_dir, tmp_path / "report.html")
    page = _Page(html)
    shown = [sample.path for sample in (*select_escapes(evaluation.samples), *select_false_rejects(evaluation.samples))]
    assert len(shown) == 4
    for picture, path in zip(page.pictures("overlay"), shown, strict=True):
        assert np.abs(picture.astype(int) - (255 - cv2.imread(str(path)))).mean() < 20  # but for JPEG
    masks = page.pictures("mask")
    assert len(masks) == 2  # the good ones have none
    assert all((mask[22:38, 32:48] == 255).all() and (mask[:10] < 255).any() for mask in masks)
    assert all((crop[30:40, 35:45] > 200).mean() > 0.9 for crop in page.pictures("original, cropped")[:2])


def test_crop_is_of_the_original_where_the_caption_says(recipe_dir: Path, tmp_path: Path) -> None:
    dataset = tmp_path / "wide"
    for folder in ("test/good", "test/dent", "ground_truth/dent"):
        (dataset / folder).mkdir(parents=True)
    frame = np.full((320, 640, 3), 60, np.uint8)
    cv2.imwrite(str(dataset / "test/good/0.png"), frame)
    frame[290:310, 600:630] = (0, 0, 255)
    cv2.imwrite(str(dataset / "test/dent/0.png"), frame)
    cv2.imwrite(str(dataset / "ground_truth/dent/0.png"), (frame[..., 2] == 255).astype(np.uint8) * 255)
    _, html = _report(recipe_dir, dataset, tmp_path / "report.html")
    (caption,) = re.findall(r"original, pixels (\d+) to (\d+) × (\d+) to (\d+)", html)[:1]
    left, right, top, bottom = map(int, caption)
    crop = _Page(html).pictures("original, cropped")[0]
    assert crop.shape == (bottom - top, right - left, 3) == (96, 96, 3)
    assert np.abs(crop.astype(int) - frame[top:bottom, left:right]).mean() < 10
    assert (right, bottom) == (640, 320)  # moved inward at the corner
    assert (crop[..., 2] > 200).sum() > 0.8 * 20 * 30


def test_names_from_outside_are_escaped(recipe_dir: Path, dataset_dir: Path, tmp_path: Path) -> None:
    (dataset_dir / "test/dent").rename(dataset_dir / "test" / HOSTILE)
    (dataset_dir / "ground_truth/dent").rename(dataset_dir / "ground_truth" / HOSTILE)
    (dataset_dir / "test/good/0.png").rename(dataset_dir / f"test/good/{HOSTILE}.png")
    frames = {f"{HOSTILE}.jpg": compute_sha256(dataset_dir / "test/good/1.png")}
    (recipe_dir / "training.json").write_text(json.dumps({"frames": frames}), encoding="utf-8")
    _, html = _report(recipe_dir, dataset_dir, tmp_path / "report.html")
    page = _Page(html)
    assert not any(tag.startswith("script") for tag, _ in page.tags)
    assert "<script" not in html
    assert page.text.count(HOSTILE) >= 6  # table, legend, three captions with the kind, banner
    assert "alert(1)<-script>" not in html


def test_name_that_is_no_text_does_not_stop_the_report(recipe_dir: Path, dataset_dir: Path, tmp_path: Path) -> None:
    (dataset_dir / "test/good/0.png").rename(dataset_dir / "test/good/\udcff.png")
    _, html = _report(recipe_dir, dataset_dir, tmp_path / "report.html")
    assert "test/good/?.png" in html


def test_banner_names_frames_known_from_training(recipe_dir: Path, dataset_dir: Path, tmp_path: Path) -> None:
    evaluation, html = _report(recipe_dir, dataset_dir, tmp_path / "report.html")
    assert 'class="banner"' not in html
    duplicates = [{"path": "test/good/1.png", "training_frame": "good-007.png"}]
    known = dataclasses.replace(evaluation, metrics=evaluation.metrics | {"duplicates_of_training": duplicates})
    html = _write(known, recipe_dir, tmp_path / "report.html")
    assert 'class="banner"' in html
    assert "test/good/1.png is the same file as good-007.png" in html
    unknown = dataclasses.replace(evaluation, metrics=evaluation.metrics | {"duplicates_of_training": None})
    assert "was not checked" in _write(unknown, recipe_dir, tmp_path / "report.html")


def test_report_says_so_when_more_good_frames_fail_than_the_recipe_promised(
    recipe_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    _set_threshold(recipe_dir, 1e-6)
    page = _Page(_report(recipe_dir, dataset_dir, tmp_path / "report.html")[1])
    assert "at most 7.2\u00a0% of good parts are rejected, at 95 % confidence" in page.text
    assert "More good frames were rejected here than this bound allows" in page.text
    assert "Good frames that fail, highest score first." in page.text
    assert "No defective frame passes. The frames nearest to the threshold:" in page.text


def test_report_is_written_without_masks_and_without_a_training_record(
    recipe_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    shutil.rmtree(dataset_dir / "ground_truth")
    (recipe_dir / "training.json").unlink()
    page = _Page(_report(recipe_dir, dataset_dir, tmp_path / "report.html")[1])
    assert "No defective frame has a mask, so there are no pixel metrics." in page.text
    assert page.pictures("mask") == []
    assert "learning rate" not in page.text


def _sample(kind: str, score: float) -> Sample:
    verdict = Verdict.FAIL if score > 5 else Verdict.PASS
    return Sample(Path(f"{kind}{score}"), kind, score, verdict, None, (1, 1), 0.1)


def test_worst_escapes_are_the_lowest_defective_that_pass_and_at_most_eight() -> None:
    samples = [_sample(kind, float(score)) for score in range(4, -8, -1) for kind in ("dent", "good")]
    assert [sample.score for sample in select_escapes(samples)] == [float(score) for score in range(-7, 1)]
    assert {sample.kind for sample in select_escapes(samples)} == {"dent"}


def test_worst_false_rejects_are_the_highest_good_that_fail_and_at_most_eight() -> None:
    samples = [_sample(kind, float(score)) for score in range(6, 20) for kind in ("dent", "good")]
    assert [sample.score for sample in select_false_rejects(samples)] == [float(score) for score in range(19, 11, -1)]
    assert {sample.kind for sample in select_false_rejects(samples)} == {"good"}


def test_nearest_to_the_threshold_are_shown_when_all_is_right() -> None:
    samples = [_sample("good", float(score)) for score in range(6)] + [_sample("dent", 6.0 + n) for n in range(6)]
    assert [sample.score for sample in select_escapes(samples)] == [6.0, 7.0, 8.0, 9.0]
    assert [sample.score for sample in select_false_rejects(samples)] == [5.0, 4.0, 3.0, 2.0]


def test_bound_is_in_words_with_the_frames_it_rests_on(threshold_recipe_dir: Path) -> None:
    recipe = load_recipe(threshold_recipe_dir)
    assert "states no bound" in describe_bound(recipe)
    threshold = Threshold(value=1.0, method="gumbel", n_good=24, false_reject_bound=0.117)
    words = describe_bound(recipe.model_copy(update={"threshold": threshold}))
    assert words.startswith("The threshold was set on 24 good frames not used in training, with a Gumbel")
    assert "at most 11.7\u00a0% of good parts" in words
    for method, expected in (
        ("generalised_pareto", "on 24 .*, with a generalised Pareto"),
        ("defects", "on defective"),
    ):
        changed = recipe.model_copy(update={"threshold": threshold.model_copy(update={"method": method})})
        assert re.match(f"The threshold was set {expected}", describe_bound(changed))
    by_hand = threshold.model_copy(update={"method": "manual"})  # what calibration once stated holds no longer
    assert "states no bound" in describe_bound(recipe.model_copy(update={"threshold": by_hand}))


def test_facts_are_every_key_of_the_recipe(threshold_recipe_dir: Path) -> None:
    facts = dict(flatten({"a": 1, "b": {"c": [1, 2], "d": {"e": None}}, "f": {}}))
    assert facts == {"a": "1", "b.c": "1, 2", "b.d.e": "–", "f": "–"}


def test_old_report_stays_when_a_frame_cannot_be_shown(recipe_dir: Path, dataset_dir: Path, tmp_path: Path) -> None:
    evaluation, before = _report(recipe_dir, dataset_dir, tmp_path / "report.html")
    (dataset_dir / "test/dent/2.png").unlink()
    with pytest.raises(InspectorError, match=r"2\.png"):
        _write(evaluation, recipe_dir, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before


def test_command_writes_the_report_with_the_overlays_the_daemon_draws(
    recipe_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    arguments = [str(recipe_dir), str(dataset_dir), "--device", "cpu", "--report", str(tmp_path / "report.html")]
    done = CliRunner().invoke(app, ["evaluate", *arguments])
    assert done.exit_code == 0, done.output
    overlays = _Page((tmp_path / "report.html").read_text(encoding="utf-8")).pictures("overlay")
    assert len(overlays) == 4
    for picture in overlays:
        assert picture.shape[1] == 640
        assert np.median(picture[:10], axis=(0, 1)).tolist() == pytest.approx([80, 160, 40], abs=12)  # a PASS's banner


@pytest.fixture
def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium on this machine")
    return found


def test_browser_shows_the_report_without_a_word_on_its_console(
    browser: str, recipe_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    _report(recipe_dir, dataset_dir, tmp_path / "report.html")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    for scheme in ([], ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"]):
        command = [browser, *options, *scheme, f"--user-data-dir={tmp_path}/browser", "--dump-dom"]
        command.append((tmp_path / "report.html").as_uri())
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert "random: evaluation on dataset</h1>" in done.stdout
        assert done.stdout.count("</svg>") == 3
        assert "CONSOLE" not in done.stderr
