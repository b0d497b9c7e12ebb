"""Which verdicts came, which are missing, and the replays that fetch those. No sockets, no clock of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from inspector.client.events import Event, Gap, Lost, Verdict
from inspector.client.messages import MalformedError, check, parse_verdict

_MAX_CAMERAS = 1000
_MAX_GAPS = 1000
"""Per camera; more are given up, the oldest first."""


@dataclass(frozen=True, slots=True)
class Question:
    """A replay that was requested and not answered yet."""

    token: bytes
    first: int
    last: int
    deadline: float


@dataclass(slots=True)
class Place:
    """How far one camera's results were read.

    Attributes:
        missing: (first, last) in rising order, none past `last`.
        returned: the same, in any order: what came, and was dropped because nobody fetched it.
    """

    boot_id: str
    last: int
    recorded: int  # the last one that is surely in the journal: a restart may give the numbers after it once more
    missing: list[tuple[int, int]] = field(default_factory=list)
    returned: list[tuple[int, int]] = field(default_factory=list)
    question: Question | None = None

    def cut(self, first: int, last: int) -> list[tuple[int, int]]:
        """Take first to last out of what is missing; what was taken."""
        taken, kept = [], []
        for low, high in self.missing:
            start, end = max(low, first), min(high, last)
            if start > end:
                kept.append((low, high))
                continue
            taken.append((start, end))
            kept += [part for part in ((low, start - 1), (end + 1, high)) if part[0] <= part[1]]
        self.missing = kept
        return taken


class Gaps:
    """Lets each verdict through once, and has what is missing asked for, one request per camera at a time."""

    def __init__(
        self,
        emit: Callable[[Event], None],
        ask: Callable[[bytes, dict[str, Any]], float] | None,
        from_seq: Mapping[str, int],
    ) -> None:
        """Start without a known gap.

        Args:
            emit: takes each event.
            ask: sends a request under a token that comes back with the answer; returns the deadline. None: there is
                nobody to ask.
            from_seq: camera → the first `seq` wanted.
        """
        self._emit = emit
        self._ask_station = ask
        self._tokens = itertools.count(1)
        self._places = {camera: Place("", seq - 1, seq - 1) for camera, seq in from_seq.items()}

    def knows(self, camera: str) -> bool:
        """Whether it is known where this camera's verdicts begin."""
        return camera in self._places

    def deadlines(self) -> list[float]:
        """Of the replays under way, on the monotonic clock."""
        return [place.question.deadline for place in self._places.values() if place.question]

    def take_verdict(self, verdict: Verdict) -> None:
        """A verdict came: emit it, after the gap before it, unless it came before."""
        place = self._find_place(verdict.camera, verdict.boot_id, verdict.seq - 1)
        if verdict.seq > place.last:
            self._note_last(verdict.camera, place, verdict.seq - 1)
            place.last = verdict.seq
        elif not place.cut(verdict.seq, verdict.seq):
            return
        if verdict.raw.get("recorded", True):
            place.recorded = max(place.recorded, verdict.seq)
        self._emit(verdict)

    def take_last_seq(self, camera: str, boot_id: str, seq: int) -> None:
        """A status says which verdict was the last: it comes in order with the results, so none is still under way."""
        self._note_last(camera, self._find_place(camera, boot_id, seq), seq)

    def take_answer(self, token: bytes, answer: object, station: str | None) -> bool:
        """The answer of `station` to a replay; False where it is malformed. One too late has no question any more."""
        for camera, place in self._places.items():
            if place.question and place.question.token == token:
                question, place.question = place.question, None
                sound, reached, why = self._read_replay(camera, place, question, answer, station)
                self._lose(camera, place.cut(0, reached), why)
                self._ask(camera, place)
                return sound
        return True

    def expire(self, now: float) -> None:
        """Give up what was asked for and did not come in time."""
        for camera, place in self._places.items():
            if place.question and now > place.question.deadline:
                self._lose(camera, place.cut(0, place.question.last), "no answer to the replay")
                place.question = None
                self._ask(camera, place)

    def give_back(self, verdict: Verdict) -> None:
        """It came, and was dropped because nobody fetched it."""
        place = self._places.get(verdict.camera)
        if place is None or verdict.seq > place.last:
            return
        if place.returned and place.returned[-1][1] == verdict.seq - 1:
            place.returned[-1] = (place.returned[-1][0], verdict.seq)
            return
        place.returned.append((verdict.seq, verdict.seq))
        del place.returned[:-_MAX_GAPS]

    def fetch_returned(self) -> None:
        """There is room again for what was given back."""
        for camera, place in self._places.items():
            if returned := sorted(place.returned):
                place.returned = []
                for first, last in returned:
                    self._emit(Gap(camera, first, last))
                place.missing = sorted(place.missing + returned)
                self._ask(camera, place)

    def _find_place(self, camera: str, boot_id: str, before: int) -> Place:
        """The camera's place; where it is new, or the station is, nothing up to `before` is expected any more."""
        if camera not in self._places and len(self._places) >= _MAX_CAMERAS:
            raise MalformedError(f"camera: at most {_MAX_CAMERAS} cameras are followed, got {camera!r:.80}")
        place = self._places.setdefault(camera, Place(boot_id, before, before))
        if place.boot_id != boot_id:
            # Numbers beyond what the journal holds are given once more; numbers below are those of a new journal.
            place.boot_id = boot_id
            place.last = place.recorded = min(place.recorded, before)
            place.returned = [part for part in place.returned if part[1] <= place.last]
            place.cut(place.last + 1, before)  # the caller finds them missing again, and the journal may have them
            self._lose(camera, place.cut(before + 1, 1 << 63), "the station restarted")
            place.question = None
            self._ask(camera, place)
        return place

    def _note_last(self, camera: str, place: Place, last: int) -> None:
        if last <= place.last:
            return
        self._emit(Gap(camera, place.last + 1, last))
        place.missing.append((place.last + 1, last))
        place.last = last
        if len(place.missing) > _MAX_GAPS:
            self._lose(camera, place.cut(*place.missing[0]), "too many gaps")
        self._ask(camera, place)

    def _ask(self, camera: str, place: Place) -> None:
        if place.question or not place.missing:
            return
        if self._ask_station is None:
            self._lose(camera, place.cut(0, place.last), "no requests endpoint was given")
            return
        first, last = place.missing[0][0], place.missing[-1][1]
        token = str(next(self._tokens)).encode()
        deadline = self._ask_station(token, {"request": "replay", "camera": camera, "from_seq": first})
        place.question = Question(token, first, last, deadline)

    def _read_replay(
        self, camera: str, place: Place, question: Question, answer: object, station: str | None
    ) -> tuple[bool, int, str]:
        """Emit what was missing; whether all was sound, up to where the answer speaks, why what it lacks is lost."""
        try:
            checked = check(answer, {"ok": (bool,)})
            if not checked["ok"]:
                return True, question.last, f"the replay was refused: {checked.get('error')!s:.200}"
            results = check(checked, {"results": (list,)})["results"]
        except MalformedError as error:
            return False, question.last, f"the replay was malformed: {error}"
        sound, reached = True, 0
        for raw in results:
            try:
                verdict = parse_verdict(raw, camera, station, replayed=True)
            except MalformedError:
                sound = False
                continue
            reached = max(reached, verdict.seq)
            if place.cut(verdict.seq, verdict.seq):  # those beyond the gap are on their way as they should
                place.recorded = max(place.recorded, verdict.seq)
                self._emit(verdict)
        goes_on = checked.get("more") is True and reached >= question.first
        return sound, min(reached, question.last) if goes_on else question.last, "they are not in the replay"

    def _lose(self, camera: str, ranges: list[tuple[int, int]], why: str) -> None:
        for first, last in ranges:
            self._emit(Lost(camera, first, last, why))
