"""Parts that were answered NO_ANSWER: that is final for all their ids, and never forgotten."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable

Ids = tuple[str | None, str | None, str | None]
"""frame_id, part_id, trigger_id."""
Key = tuple[str, int, str]
"""Camera, which of the ids, the id."""

_BITS = 1 << 25
_HASHES = 5
_MAX_TIES = 10_000
"""Verdicts whose ids are known to belong together."""


def shares_id(some: Ids, others: Ids) -> bool:
    """Whether two frames of one camera share an id."""
    return any(one is not None and one == other for one, other in zip(some, others, strict=True))


class Finals:
    """A Bloom filter of 4 MiB: it never forgets an id, and the fuller it is, the more others it takes for one.

    With 300,000 ids it takes one in six million others for one, with a million one in 20,000. So it fails towards "stop
    the part", and its memory does not grow.
    """

    def __init__(self) -> None:
        self._bits = bytearray(_BITS // 8)
        self._is_empty = True
        self._ties: deque[list[Key]] = deque()
        self._tied: dict[Key, list[list[Key]]] = {}  # each key of `_ties`, and the ties that it is in

    def holds(self, camera: str, ids: Ids) -> bool:
        """Whether a part with one of these ids was answered NO_ANSWER."""
        return not self._is_empty and any(self._has(key) for key in _list_keys(camera, ids))

    def tie(self, camera: str, ids: Ids) -> None:
        """A verdict has these ids: where one of them is final, all are, and where one becomes so, all do."""
        if self.holds(camera, ids):
            self._add(_list_keys(camera, ids))
        keys = _list_keys(camera, ids)
        self._ties.append(keys)
        for key in keys:
            self._tied.setdefault(key, []).append(keys)
        if len(self._ties) > _MAX_TIES:
            self._forget(self._ties.popleft())

    def _forget(self, keys: list[Key]) -> None:
        for key in keys:
            ties = self._tied[key]
            ties.pop(0)  # the oldest of all ties is the oldest of each of its keys
            if not ties:
                del self._tied[key]

    def close(self, camera: str, ids: Ids) -> None:
        """These ids were answered NO_ANSWER: they are final, with all that verdicts tied to them."""
        closed = dict.fromkeys(_list_keys(camera, ids))
        waiting = list(closed)
        while waiting:  # each key is looked up once, so the time grows with the ids that are closed
            for keys in self._tied.get(waiting.pop(), ()):
                waiting += [key for key in keys if key not in closed]
                closed.update(dict.fromkeys(keys))
        self._add(closed)

    def _has(self, key: Key) -> bool:
        return all(self._bits[bit >> 3] >> (bit & 7) & 1 for bit in _compute_bits(key))

    def _add(self, keys: Iterable[Key]) -> None:
        for key in keys:
            for bit in _compute_bits(key):
                self._bits[bit >> 3] |= 1 << (bit & 7)
            self._is_empty = False


def _list_keys(camera: str, ids: Ids) -> list[Key]:
    return [(camera, kind, each) for kind, each in enumerate(ids) if each is not None]


def _compute_bits(key: Key) -> list[int]:
    digest = hashlib.blake2b(repr(key).encode(), digest_size=4 * _HASHES).digest()
    return [int.from_bytes(digest[at : at + 4]) % _BITS for at in range(0, len(digest), 4)]
