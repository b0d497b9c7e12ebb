"""What only one camera of a station may have: a name, a sender's text, a folder, a device."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """One camera's, on something that would feed it or that it is known by.

    Attributes:
        field: the camera's name, and below it the field that says so.
        what: name, sender, folder or device.
        value: as people are to read it.
        key: equal where two values mean the same thing, or could be taken for one another. Its second half is empty
            where it may be any of the kind that the first half names.
    """

    field: tuple[str, ...]
    what: str
    value: str
    key: tuple[str, str]

    @property
    def camera(self) -> str:
        """Name of the camera that makes the claim."""
        return self.field[0]


def claim_text(field: tuple[str, ...], what: str, text: str) -> Claim:
    """A camera's name, or the text its sender uses: one that people would take for another's is the same."""
    return Claim(field, what, repr(text), ("text", unicodedata.normalize("NFKC", text).casefold()))


def find_conflicts(claims: Iterable[Claim]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each claim on what another camera has already: its field, and what is wrong."""
    owners: dict[tuple[str, str], Claim] = {}
    claims = list(claims)
    for claim in claims:
        named = (each for each in claims if each.key[0] == claim.key[0] and each.key[1] and each.camera != claim.camera)
        if not claim.key[1] and (other := next(named, None)) is not None:
            yield claim.field, f"must name one, since camera {other.camera} has another {other.what}, got {claim.value}"
        owner = owners.setdefault(claim.key, claim)
        if owner.camera != claim.camera:
            rule = f"must not be {'' if owner.value == claim.value else 'mistaken for '}the {owner.what} of camera"
            its = "" if owner.value == claim.value else f" ({owner.value})"
            yield claim.field, f"{rule} {owner.camera}{its}, got {claim.value}"
