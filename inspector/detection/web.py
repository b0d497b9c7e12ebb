"""Regions on a web: where on it they are, and which defect they are of when two frames that overlap show it."""

from __future__ import annotations

from dataclasses import replace

from inspector.detection.decision import MAX_REGIONS
from inspector.types import Region, Result, Web


class WebDefects:
    """Numbers the defects of each camera's web. Used by one thread, which is given results in the order of their `seq`.

    A region that touches one of an earlier frame of the run, in the web's coordinates, is of the same defect and has
    its number. It is reported again all the same: a list of defects by number has each once, and none is lost where a
    result is.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, list[Region]]] = {}  # run, regions that a later frame may show again

    def place(self, result: Result) -> Result:
        """The result with its regions' `web_y`, `web_mm` and `defect`; itself where it has none, or is of no web."""
        web = result.web
        if web is None or not result.regions:  # an error may overtake frames before it, and changes nothing
            return result
        run, before = self._last.get(result.camera, (web.run, []))
        before = [] if run != web.run else [region for region in before if _get_end(region) >= web.y[0]]
        regions = [_place(region, web) for region in result.regions]
        numbered = tuple(
            replace(region, defect=_find_defect(region, before) or result.seq * MAX_REGIONS + index)
            for index, region in enumerate(regions)
        )
        self._last[result.camera] = web.run, [*before, *numbered]
        return replace(result, regions=numbered)


def _place(region: Region, web: Web) -> Region:
    _, top, _, bottom = region.xyxy
    y = (web.y[0] + top, web.y[0] + bottom)
    pitch_mm = None if web.line_pitch_um is None else web.line_pitch_um / 1000
    return replace(region, web_y=y, web_mm=None if pitch_mm is None else (y[0] * pitch_mm, y[1] * pitch_mm))


def _get_end(region: Region) -> int:
    return region.web_y[1] if region.web_y else 0


def _find_defect(region: Region, before: list[Region]) -> int | None:
    """The number of the first region that it touches."""
    return next((each.defect for each in before if _touches(region, each)), None)


def _touches(one: Region, other: Region) -> bool:
    (left, _, right, _), (other_left, _, other_right, _) = one.xyxy, other.xyxy
    (top, bottom), (other_top, other_bottom) = one.web_y or (0, 0), other.web_y or (0, 0)
    return left <= other_right and other_left <= right and top <= other_bottom and other_top <= bottom
