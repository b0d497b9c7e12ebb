"""What the views of one part decide together: only a PASS of each of them on record lets it through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from inspector.types import Frame, Reason, Result, Verdict, View


@dataclass(frozen=True, slots=True)
class Group:
    """A kind of part: the cameras that see it, each in one group at most, and the id that their frames share."""

    name: str
    cameras: tuple[str, ...]
    by: Literal["part_id", "trigger_id"]


class Refusal(NamedTuple):
    """Why a frame is not judged."""

    reason: Reason
    why: str


@dataclass(frozen=True, slots=True)
class Decided:
    """The one decision on a part.

    Attributes:
        number: the part's own.
        lead: of a PASS or FAIL the result with the highest score for its threshold.
        views: of each camera of the group, what is known.
        frames: the views that came, without pixels.
        is_simulated: one of them shows no real part.
        warns: one of them is in its recipe's warn band.
    """

    number: int
    verdict: Verdict
    reason: Reason
    message: str | None
    lead: Result | None
    views: tuple[View, ...]
    frames: tuple[Frame, ...]
    is_simulated: bool
    warns: bool


@dataclass(slots=True)
class PartView:
    """A view that came, or whose trigger was told; `number` is of its ticket, or its trigger's."""

    number: int
    frame: Frame
    awaits_frame: bool
    result: Result | None = None


@dataclass(slots=True)
class OpenPart:
    """A part that has no verdict.

    Attributes:
        key: name of the group, and the part's id.
        number: its own.
        views: by camera.
        numbers: its own, and of all that came, or is awaited, for it.
        refusal: why it cannot be good, whatever its views say.
    """

    key: tuple[str, str]
    number: int
    group: Group
    views: dict[str, PartView] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    refusal: Refusal | None = None


def is_complete(part: OpenPart) -> bool:
    """Whether each of its cameras' views has its verdict."""
    views = part.views
    return all(camera in views and views[camera].result is not None for camera in part.group.cameras)


def decide(part: OpenPart, is_offline: Callable[[str], bool]) -> Decided:
    """Doubt about which part it is outweighs all; then a defect that was seen; then a view that says nothing."""
    seen = list(part.views.values())
    results = [view.result for view in seen if view.result is not None]
    failed = [result for result in results if result.verdict is Verdict.FAIL]
    verdict, reason = (Verdict.FAIL, Reason.DEFECT) if failed else (Verdict.PASS, Reason.OK)
    lead, message = max(failed or results, key=_compute_share, default=None), None
    if flaw := part.refusal or (None if failed else _find_gap(part, is_offline)):
        verdict, reason, lead, message = Verdict.ERROR, flaw.reason, None, flaw.why
    return Decided(
        part.number,
        verdict,
        reason,
        message,
        lead,
        views=tuple(_describe(camera, part.views.get(camera)) for camera in part.group.cameras),
        frames=tuple(view.frame for view in seen),
        is_simulated=any(view.frame.simulated for view in seen),
        warns=verdict is Verdict.PASS and any(result.warn for result in results),
    )


def _describe(camera: str, view: PartView | None) -> View:
    if view is None or view.result is None:
        came = view is not None and not view.awaits_frame
        return View(camera, view.frame.frame_id if came and view else None)
    result = view.result
    return View(camera, result.frame_id, result.seq, result.verdict, result.reason, result.score, result.threshold)


def _find_gap(part: OpenPart, is_offline: Callable[[str], bool]) -> Refusal | None:
    """What keeps the views from saying that the part is good: any that is not a PASS on record.

    OFFLINE where nothing else does: people know of that, and expect such parts.
    """
    views = {camera: part.views.get(camera) for camera in part.group.cameras}
    absent = [camera for camera, view in views.items() if _is_absent(view, is_offline=is_offline(camera))]
    views = {camera: view for camera, view in views.items() if camera not in absent}
    if missing := [camera for camera, view in views.items() if _is_missing(view)]:
        return Refusal(Reason.VIEW_MISSING, f"no view of camera {', '.join(missing)}")
    answers = {camera: view.result if view else None for camera, view in views.items()}
    if late := [camera for camera, answer in answers.items() if answer is None]:
        return Refusal(Reason.VIEW_LATE, f"no verdict within the window on the view of camera {', '.join(late)}")
    bad = [f"{name} {each.reason.name}" for name, each in answers.items() if each and each.verdict is not Verdict.PASS]
    if bad:
        return Refusal(Reason.VIEW_ERROR, f"views answered ERROR: {', '.join(bad)}")
    return Refusal(Reason.OFFLINE, f"offline: camera {', '.join(absent)}") if absent else None


def _is_absent(view: PartView | None, *, is_offline: bool) -> bool:
    """Whether a view says nothing because its camera is offline, or was when its frame came."""
    if view is not None and view.result is not None and view.result.reason is Reason.OFFLINE:
        return True
    return is_offline and _is_missing(view)


def _is_missing(view: PartView | None) -> bool:
    """Whether no frame came."""
    if view is None or view.result is None:
        return view is None or view.awaits_frame
    return view.result.reason is Reason.NO_FRAME


def _compute_share(result: Result) -> float:
    return result.score / result.threshold if result.score is not None and result.threshold else 0.0
