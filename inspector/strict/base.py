"""What the models of all files that people write have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

SCHEMA = 1


def _refuse_bool(value: object) -> object:
    if isinstance(value, bool):  # True == 1, and YAML writes it in many ways
        raise ValueError("must be a number")
    return value


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Size = Annotated[int, Field(ge=1, le=65_536)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
SchemaVersion = Annotated[Literal[1], BeforeValidator(_refuse_bool)]


class Strict(BaseModel):
    """A part of a file: unknown keys are refused, and nothing changes once it is read.

    The text below a field is its description, in the JSON Schema and in docs/reference.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about a field.

    Attributes:
        field: where it is in the file.
        problem: what is wrong, or in doubt.
        advice: what to do about it.
    """

    field: tuple[int | str, ...]
    problem: str
    advice: str = ""

    @property
    def name(self) -> str:
        """The field's path as written in the file."""
        return ".".join(map(str, self.field))

    def __str__(self) -> str:
        """Field, problem and advice."""
        return f"{self.name}: {self.problem}" + (f"; {self.advice}" if self.advice else "")
