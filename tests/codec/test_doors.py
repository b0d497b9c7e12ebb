"""One rule at every door: each form of a picture has the same verdict, score and regions, or the same refusal."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zmq
from torch import Tensor

from inspector.cli import online
from inspector.cli.inspect import _inspect_one
from inspector.codec import decode_image
from inspector.config import Camera, Recipe
from inspector.detection.detector import Detector
from inspector.engine.base import Precision
from inspector.errors import BadFrameError, FrameError, InspectorError
from inspector.recipe.golden import judge_known
from inspector.recipe.masks import read_roi
from inspector.sources.folder import FolderSource
from inspector.sources.wire import FrameDecoder
from inspector.training.data.datasets import FrameSet, survey
from inspector.training.evaluation.evaluate import _judge
from inspector.training.evaluation.ground_truth import read_mask
from inspector.training.thresholds.scoring import score_frames
from inspector.types import Frame
from tests.codec.forms import FORMS, PLAIN, Form, draw

ROOT = Path(__file__).resolve().parents[2]
FORMATS = {"grey": "Mono8", "colour": "RGB8", "deep": "Mono16"}
THRESHOLD = 170.0
DECODER = FrameDecoder({"top": Camera()}, max_bytes=2**20)


class BrightnessEngine:
    """Finds bright pixels: a map is the tiles' own mean."""

    name, precision, device = "brightness", Precision.FP32, torch.device("cpu")
    pays_for_full_batch, frames_in_flight, brings_own_threads = False, 1, False

    def __init__(self) -> None:
        self.tiles = torch.zeros(4, 3, 32, 32)

    def infer(self, count: int) -> Tensor:
        return self.tiles[:count].float().mean(dim=1)

    def halve_batch(self) -> None:
        raise AssertionError


def make_detector(holds: str) -> Detector:
    recipe = Recipe.model_validate(
        {
            "recipe_id": "bright",
            "backbone": "resnet18",
            "preprocessing": {"pixel_format": FORMATS[holds]},
            "tiling": {"tile_size": 32, "stride": 32},
            "threshold": {"value": THRESHOLD, "method": "manual"},
            "weights_sha256": "0" * 64,
        }
    )
    return Detector(recipe, BrightnessEngine())


Judged = tuple[str, float, Any]
"""Verdict, score, and regions (None: this door does not tell)."""


def judge_frame(detector: Detector, frame: Frame) -> Judged:
    if frame.pixels is None:
        raise InspectorError(frame.error or "")
    decision = detector.judge(frame.pixels, frame.pixel_format).decision
    return decision.verdict.value, decision.score, [region.xyxy for region in decision.regions]


def by_inspect(detector: Detector, path: Path, caplog: Any) -> Judged:
    record = _inspect_one(detector, path, None)
    if record["verdict"] == "ERROR":
        raise InspectorError(record["message"])
    return record["verdict"], record["score"], [region["xyxy"] for region in record["regions"]]


def by_folder(detector: Detector, path: Path, caplog: Any) -> Judged:
    source = FolderSource("top", path.parent, watch=False)
    source.connect()
    frame = source.read(1.0)
    assert frame is not None
    return judge_frame(detector, frame)


def by_wire(detector: Detector, path: Path, caplog: Any) -> Judged | None:
    encoding = {b"\xff\xd8": "jpeg", b"\x89P": "png"}.get(path.read_bytes()[:2])
    if encoding is None:
        return None  # the wire knows no other
    header = json.dumps({"camera": "top", "frame_id": "x", "encoding": encoding}).encode()
    return judge_frame(detector, DECODER.decode([header, path.read_bytes()]))


def by_send(detector: Detector, path: Path, caplog: Any) -> Judged:
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        pull.linger = 0
        endpoint = f"tcp://127.0.0.1:{pull.bind_to_random_port('tcp://127.0.0.1')}"
        told = io.StringIO()
        try:
            with contextlib.redirect_stderr(told):
                online.send([path], to=endpoint, camera="top", fps=0.0, count=0, timeout=20.0, live=False)
        except InspectorError as error:  # which counts the files that are named before
            raise InspectorError(told.getvalue()) from error
        assert pull.poll(20_000)
        return judge_frame(detector, DECODER.decode(pull.recv_multipart()))


def by_golden(detector: Detector, path: Path, caplog: Any) -> Judged:
    for verdict in ("PASS", "FAIL"):
        try:
            return verdict, judge_known(detector, path.read_bytes(), verdict), None
        except InspectorError as error:
            if "cannot be judged" in str(error):
                raise
    raise AssertionError


def by_evaluate(detector: Detector, path: Path, caplog: Any) -> Judged:
    caplog.clear()
    sample = _judge(detector, path, None, path.with_suffix(".npy"))
    if sample is None:
        raise InspectorError(caplog.text)
    return sample.verdict.value, sample.score, None


def by_calibrate(detector: Detector, path: Path, caplog: Any) -> Judged:
    caplog.clear()
    scores = score_frames(detector, [path])
    if not scores:
        raise InspectorError(caplog.text)
    (frame,) = scores.values()
    return "FAIL" if frame.score > THRESHOLD else "PASS", frame.score, None


def by_train(detector: Detector, path: Path, caplog: Any) -> Judged:
    """Training has no verdict: what its network would see, judged."""
    caplog.clear()
    plain = path.parents[1] / "plain.png"
    holds = {named: holds for holds, named in FORMATS.items()}[detector.recipe.preprocessing.pixel_format]
    plain.write_bytes(PLAIN[holds](draw(defective=False)))
    preprocessing, _ = survey([plain, path], 1.0, None)
    try:
        image = FrameSet([path], preprocessing)[0]
    except InspectorError as error:
        raise InspectorError(caplog.text) from error
    score = float(detector.compute_anomaly_map(image).max())
    return "FAIL" if score > THRESHOLD else "PASS", score, None


DOORS: dict[str, Callable[[Detector, Path, Any], Judged | None]] = {
    "inspect": by_inspect, "folder": by_folder, "wire": by_wire, "send": by_send, "golden": by_golden,
    "evaluate": by_evaluate, "calibrate": by_calibrate, "train": by_train,
}  # fmt: skip


def write(folder: Path, form: Form, *, defective: bool) -> Path:
    """The picture; its name says nothing of what it is."""
    path = folder / f"{'defective' if defective else 'good'}" / "picture.png"
    path.parent.mkdir()
    path.write_bytes(form.make(draw(defective=defective)))
    return path


@pytest.mark.parametrize("name", [name for name, form in FORMS.items() if form.words is None])
def test_form_is_judged_alike_at_every_door(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="inspector")
    form = FORMS[name]
    detector = make_detector(form.holds)
    for defective, verdict in ((False, "PASS"), (True, "FAIL")):
        path = write(tmp_path, form, defective=defective)
        pixels, pixel_format = decode_image(path.read_bytes())
        if form.is_exact:
            assert np.array_equal(pixels, decode_image(PLAIN[form.holds](draw(defective=defective)))[0])
        decision = detector.judge(pixels, pixel_format).decision
        regions = [region.xyxy for region in decision.regions]
        assert decision.verdict == verdict
        if form.is_exact:
            assert regions == ([(30, 20, 40, 28)] if defective else [])
        for door, judge in DOORS.items():
            judged = judge(detector, path, caplog)
            if judged is not None:
                assert (door, judged[0], judged[1]) == (door, verdict, pytest.approx(decision.score, abs=1e-3))
                assert judged[2] in (None, regions), door


@pytest.mark.parametrize("name", [name for name, form in FORMS.items() if form.words is not None])
def test_form_is_refused_in_the_same_words_at_every_door(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="inspector")
    form = FORMS[name]
    assert form.words is not None
    detector = make_detector(form.holds)
    path = write(tmp_path, form, defective=False)
    texts = {}
    for door, judge in DOORS.items():
        try:
            assert judge(detector, path, caplog) is None, door
        except InspectorError as error:
            texts[door] = str(error)
            assert re.search(form.words, texts[door]), door
    assert len(texts) >= len(DOORS) - 1
    if name != "webp grey":  # the one that is no fault of the file
        with pytest.raises(FrameError) as caught:
            decode_image(path.read_bytes())
        assert [door for door, text in texts.items() if str(caught.value) not in text] == []


@pytest.mark.parametrize("name", list(FORMS))
def test_mask_is_read_by_the_rule_for_frames(name: str, tmp_path: Path) -> None:
    form = FORMS[name]
    path = write(tmp_path, form, defective=True)
    if form.words is None or name == "webp grey":
        assert read_roi(path).shape == draw(defective=True).shape
        try:
            assert read_mask(path, draw(defective=True).shape).dtype == np.uint8
        except BadFrameError as error:
            assert "label" in str(error)  # noqa: PT017 (a part's picture is hardly a mask: many greys)
        return
    for read in (read_roi, lambda path: read_mask(path, draw(defective=True).shape)):
        with pytest.raises(InspectorError, match=form.words):
            read(path)


def test_every_form_has_its_row_in_the_documents() -> None:
    text = (ROOT / "docs" / "line-engineer" / "pictures.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| \*\*(.+?)\*\*", text, re.MULTILINE))
    assert rows == {form.row for form in FORMS.values()} | {"video"}
