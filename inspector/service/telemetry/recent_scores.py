"""Where scores lie of late: beside the recipe's `calibration_score` it shows a drift that no verdict shows yet."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from inspector.service.telemetry.catalogue import BY_NAME, PREFIX

_LATELY = 200
"""Frames of a camera that count: so many good ones tell a median to a few hundredths of their spread."""
_FEWEST = 20


class RecentScores(Collector):
    """The median of each camera's last frames that were judged. Noted by one thread.

    FAILs count, else the frames that drift most were left out. A histogram's quantile is no finer than its buckets,
    and all good frames may lie in one.
    """

    def __init__(self) -> None:
        self._by_camera: dict[str, tuple[str | None, deque[float]]] = {}

    def note(self, camera: str, recipe_sha256: str | None, share: float) -> None:
        """A frame's score as a share of its threshold; another recipe begins anew."""
        recipe, scores = self._by_camera.get(camera, (None, None))
        if scores is None or recipe != recipe_sha256:
            scores = deque(maxlen=_LATELY)
            self._by_camera[camera] = (recipe_sha256, scores)
        scores.append(share)

    def collect(self) -> Iterable[Metric]:
        """Of the cameras that have enough frames for it."""
        family = GaugeMetricFamily(f"{PREFIX}score_median", BY_NAME["score_median"].text, labels=["camera"])
        for camera, (_, scores) in list(self._by_camera.items()):
            shares = scores.copy()  # in one piece: the other thread goes on
            if len(shares) >= _FEWEST:
                family.add_metric([camera], statistics.median(shares))
        yield family
