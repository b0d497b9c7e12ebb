"""What the models of both files have in common."""

from __future__ import annotations

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
    """A part of a file: unknown keys are refused, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)
