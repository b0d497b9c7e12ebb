"""Pictures of the docs, from what `make demo` and the test of the dashboards left: `make pictures`.

    python docs/make_pictures.py demo-output build/panels docs/images

overlay.jpg: the first defective frame, as the evidence keeps it, beside the overlay that the station published for it.
report.png, pod.png: the head of an evaluation's report, and its chart of artificial defects that are caught.
train.png, check.png, tail.png: what these commands print, in a terminal.
dashboard-NAME.png: each dashboard's panels, drawn from Prometheus' answers, roughly as Grafana does.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageChops
from rich.console import Console
from rich.text import Text

from inspector.cli.demo.product import DefectKind, make_defective_frame, make_good_frame
from inspector.config import load_recipe
from inspector.training.evaluation.charts import draw_detection

SUMMARY = """
import sys
from pathlib import Path
from inspector.cli.terminal.summary import show_recipe
from inspector.config import load_recipe
folder = Path(sys.argv[1])
show_recipe(load_recipe(folder), folder)
"""
TRAIN = "inspector train … --out line/recipes/top"

Picture = np.ndarray[Any, Any]

HEIGHT = 420
GAP = 8
QUALITY = 85
COLUMNS = 100
"""Of the terminals."""
REPORT_WH = 1100, 1360
COLOURS = 128
FIRST_SEED = 200_000
"""Of the frames that the report is about: neither the training nor the demo's line saw them."""
STATION = Path("/var/tmp/line")  # noqa: S108 (the pictures show it: it must be nobody's home)


def make_overlay(demo: Path) -> Picture:
    """Frame and overlay side by side, (HEIGHT, W, 3) uint8 BGR.

    Raises:
        SystemExit: the demo left no frame that failed.
    """
    for result in _list_evidence(demo, "FAIL"):
        overlay = demo / "overlays" / f"{json.loads(result.read_text(encoding='utf-8'))['frame_id']}.jpg"
        if overlay.exists():
            pictures = [cv2.imread(str(path)) for path in (result.with_suffix(".png"), overlay)]
            return _put_side_by_side([picture for picture in pictures if picture is not None])
    raise SystemExit(f"{demo}: no frame that failed, with its overlay: run make demo")


def _list_evidence(demo: Path, verdict: str) -> list[Path]:
    results = sorted(demo.glob("state/*/evidence/*/*/*.json"), key=lambda path: path.name)
    return [path for path in results if json.loads(path.read_text(encoding="utf-8"))["verdict"] == verdict]


def _put_side_by_side(pictures: list[Picture]) -> Picture:
    scaled = [
        cv2.resize(picture, (round(picture.shape[1] * HEIGHT / picture.shape[0]), HEIGHT), interpolation=cv2.INTER_AREA)
        for picture in pictures
    ]
    gap = np.full((HEIGHT, GAP, 3), 255, np.uint8)
    return np.concatenate([scaled[0], gap, *scaled[1:]], axis=1)


# ---------------------------------------------------------------- pages


def draw_page(page: Path, size_wh: tuple[int, int]) -> Image.Image:
    """An HTML page as a browser shows its upper left corner, without the white edge.

    Raises:
        SystemExit: there is no browser.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("chromium: needed to draw pages and terminals (apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder, "page.png")
        size = "{},{}".format(*size_wh)
        options = ("--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={size}", f"--screenshot={shot}")
        subprocess.run([browser, *options, page.resolve().as_uri()], check=True, capture_output=True)  # noqa: S603
        with Image.open(shot) as image:
            return trim(image.convert("RGB"))


def trim(image: Image.Image, margin: int = 8) -> Image.Image:
    """The picture without its white edge, but for a margin in pixels."""
    box = ImageChops.invert(image).getbbox()
    if box is None:
        return image
    left, top, right, bottom = box
    return image.crop(
        (
            max(left - margin, 0),
            max(top - margin, 0),
            min(right + margin, image.width),
            min(bottom + margin, image.height),
        )
    )


def draw_html(html: str, size_wh: tuple[int, int]) -> Image.Image:
    """HTML text as a browser shows it."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        page.write_text(f"<meta charset=utf-8>{html}", encoding="utf-8")
        return draw_page(page, size_wh)


def draw_terminal(command: str, printed: str) -> Image.Image:
    """A command and what it printed, with the terminal's colours."""
    console = Console(record=True, width=COLUMNS + 2, file=io.StringIO())
    console.print(Text(f"$ {command}", style="bold"))
    console.print(Text.from_ansi(printed.rstrip()))
    style = "font: 13px/normal 'DejaVu Sans Mono', monospace; margin: 8px"
    html = console.export_html(inline_styles=True, code_format=f'<pre style="{style}"><code>{{code}}</code></pre>')
    return draw_html(html, (1000, 40 + 16 * (printed.count("\n") + 2)))


def save(image: Image.Image, path: Path) -> None:
    """Few colours, as charts and text have: a tenth of the bytes."""
    image.quantize(COLOURS).save(path, optimize=True)


# ---------------------------------------------------------------- the demo's recipe


def make_report(demo: Path, work: Path) -> Image.Image:
    """The head of the report on the demo's recipe: new frames, eight good ones and two of each defect."""
    for number in range(8):
        _write(work / "test/good" / f"{number}.png", make_good_frame(FIRST_SEED + number))
    for number, kind in enumerate([*DefectKind, *DefectKind]):
        frame, mask = make_defective_frame(FIRST_SEED + 100 + number, kind)
        _write(work / "test" / kind.value / f"{number}.png", frame)
        _write(work / "ground_truth" / kind.value / f"{number}.png", mask)
    run("evaluate", demo / "recipe", work, "--report", work.with_suffix(".html"))
    return draw_page(work.with_suffix(".html"), REPORT_WH)


def _write(path: Path, pixels: Picture) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)


def make_pod(demo: Path) -> Image.Image:
    """Which artificial defects the demo's recipe catches."""
    qualification = load_recipe(demo / "recipe").qualification
    if qualification is None:
        raise SystemExit(f"{demo}: the recipe was not tested with artificial defects: run make demo")
    return draw_html(draw_detection(qualification), (1000, 420))


# ---------------------------------------------------------------- terminals


def run(*arguments: object) -> str:
    """`inspector ARGUMENTS...`; what it printed on stdout, with colours."""
    return _run(_name(*arguments))


def _run(command: list[str]) -> str:
    environment = os.environ | {"COLUMNS": str(COLUMNS), "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=STATION.parent)  # noqa: S603
    return ran.stdout


def _name(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "inspector", *map(str, arguments)]


@contextlib.contextmanager
def make_station(demo: Path) -> Iterator[None]:
    """A new station with the demo's recipe, as the quick start makes one; gone at the end."""
    STATION.mkdir(mode=0o700)
    try:
        run("init", STATION)
        shutil.copytree(demo / "recipe", STATION / "recipes/top")
        yield
    finally:
        shutil.rmtree(STATION)


def print_training() -> str:
    """What `train` printed at the end of the demo's training."""
    return _run([sys.executable, "-c", SUMMARY, "line/recipes/top"])


def print_verdicts(demo: Path) -> str:
    """What `tail` prints of three good frames and three that failed in the demo."""
    frames = sorted((demo / "good").glob("*.png"))[:3]
    for result in _list_evidence(demo, "FAIL")[:3]:
        name = json.loads(result.read_text(encoding="utf-8"))["frame_id"]
        frames.append(Path(shutil.copy(result.with_suffix(".png"), STATION / "frames/bad" / f"{name}.png")))
    with subprocess.Popen(_name("run", STATION / "station.yaml")) as daemon:  # noqa: S603
        try:
            _wait_until_ready()
            with subprocess.Popen(_name("tail", "--count", len(frames)), stdout=subprocess.PIPE, text=True) as tail:  # noqa: S603
                time.sleep(5)  # until it has subscribed
                run("send", *frames, "--camera", "top", "--fps", 1)
                return tail.communicate(timeout=60)[0]
        finally:
            daemon.terminate()


def _wait_until_ready() -> None:
    for _ in range(120):
        with contextlib.suppress(OSError), urllib.request.urlopen("http://127.0.0.1:9108/ready"):
            return
        time.sleep(0.5)
    raise SystemExit("the station was not ready within a minute")


def main(demo: Path, panels: Path, images: Path) -> None:
    """Write all pictures into a folder."""
    cv2.imwrite(str(images / "overlay.jpg"), make_overlay(demo), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    with tempfile.TemporaryDirectory() as work:
        save(make_report(demo, Path(work, "dataset")), images / "report.png")
    save(make_pod(demo), images / "pod.png")
    with make_station(demo):
        save(
            draw_terminal("inspector check line/station.yaml", run("check", "line/station.yaml")), images / "check.png"
        )
        save(draw_terminal("inspector tail", print_verdicts(demo)), images / "tail.png")
        save(draw_terminal(TRAIN, print_training()), images / "train.png")
    dashboards = sorted(panels.glob("*.png"))
    if not dashboards:
        raise SystemExit(f"{panels}: no dashboards: Prometheus is needed to draw them (apt-get install prometheus)")
    for path in dashboards:
        with Image.open(path) as image:
            save(trim(image.convert("RGB")), images / f"dashboard-{path.name}")


if __name__ == "__main__":
    main(*(Path(word).resolve() for word in sys.argv[1:]))
