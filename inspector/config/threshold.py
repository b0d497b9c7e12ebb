"""What a recipe says of its threshold: its value, how it was set, and what can be promised of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from inspector.strict.base import Sha256, Share, Strict

Interval = tuple[Share, Share]


Policy = Literal["near", "extrapolate"]
"""How a threshold is set from good frames that are too few for the target rate: near the highest, or by their tail."""


class Tail(Strict):
    """A generalised Pareto law over the highest peaks of good frames, where these are too few to count.

    What it says is an extrapolation, so no bound.
    """

    location: float
    """Score above which peaks count as its tail."""
    scale: Annotated[float, Field(gt=0)]
    """Of the law, in units of the score."""
    shape: float
    """Of the law; below 0 it has an end."""
    exceedances: Annotated[int, Field(ge=1)]
    """Peaks above `location` that it was fitted to."""
    rate: Share | None = None
    """False-reject rate at the threshold by this law. null: not measured by the version that wrote it."""
    rate_interval: Interval
    """Where that rate lies with 95 % confidence, if peaks do follow the law."""


class GroupCheck(Strict):
    """Rejects among the frames of each group (a lot, a shift) when the threshold is set without that group."""

    n_groups: Annotated[int, Field(ge=3)]
    """Groups there are."""
    false_reject_rate: Share
    """Share of rejects over all groups."""
    interval: Interval
    """Two-sided 95 % Clopper–Pearson interval of that share. Frames of one group are alike, so doubt is wider."""
    worst_group: str
    """The group with the most rejects."""
    worst_false_reject_rate: Share
    """Its share of rejects."""


class GoodScores(Strict):
    """What the good frames scored that the threshold was set from: where scores lie while nothing drifts.

    A zone's are the zone's own, the recipe's those of whole frames, in which zones are weighed.
    """

    median: float
    """Half of the good frames score less."""
    p95: float
    """95 % of them score less."""

    @model_validator(mode="after")
    def _in_order(self) -> GoodScores:
        if self.p95 < self.median:
            raise ValueError(f"p95 must be at least median ({self.median}), got {self.p95}")
        return self


class DefectScores(Strict):
    """What labelled defective frames scored."""

    lowest: float
    """The lowest of their scores."""
    median: float
    """The median of their scores."""


class CrossValidation(Strict):
    """Each good frame was scored by a network that never saw it: one of several, trained on the other folds.

    The network that judges is another one, trained on all frames. What that guarantees: a false-reject bound for
    networks trained as the folds' were. That the one trained on more frames does no worse is likely and not proved.
    """

    n_folds: Annotated[int, Field(ge=2)]
    """Networks that were trained, each without one fold of the frames."""
    steps: Annotated[int, Field(ge=1)]
    """Batches that each of them was trained for."""
    gains: tuple[Annotated[float, Field(gt=0)], ...]
    """What the scores of each fold were multiplied by: the median ratio of scores by the network that judges and by
    the fold's, of frames that both were trained on.
    """
    unseen_ratio: Annotated[float, Field(ge=1)] = 1.0
    """What unseen good frames score by the network that judges, relative to those scores: the median ratio, at least
    1, over the frames that neither was trained on. The bound counts a frame as rejected where its score times this
    lies above the threshold.
    """
    deployed_above: Annotated[int, Field(ge=0)] = 0
    """Of `n_deployed`, how many score above the threshold by the network that judges."""
    n_deployed: Annotated[int, Field(ge=0)]
    """Frames that were scored by the network that judges."""


class Threshold(Strict):
    """The score above which a frame fails, and how it was set."""

    value: Annotated[float, Field(gt=0)]
    """A frame whose score is higher is FAIL."""
    method: Literal["order_statistic", "near_highest", "generalised_pareto", "gumbel", "defects", "manual"]
    """How it was set: by counting good frames (`order_statistic`), near their highest score (`near_highest`), by a
    law over their peaks (`generalised_pareto`, `gumbel`), from defective frames (`defects`), or by a person who
    answers for it (`manual`).
    """
    warn_above: Annotated[float, Field(gt=0)] | None = None
    """A frame that passes with a higher score carries a warning. Below `value`. null: none does."""
    n_good: Annotated[int, Field(ge=0)] = 0
    """Good frames it was set with."""
    n_outliers: Annotated[int, Field(ge=0)] = 0
    """Of these, how many stood out and lie above the threshold; the bound counts them as rejects."""
    cross_validated: CrossValidation | None = None
    """How the scores came about, where no frame was held aside."""
    good_scores: GoodScores | None = None
    """What the good frames scored. null: unknown."""
    target_false_reject_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    """What was asked for."""
    false_reject_bound: Share | None = None
    """Upper 95 % Clopper–Pearson bound on the false-reject rate that the good frames support by themselves, whatever
    the method hopes for; with folds, of scores times `unseen_ratio`.
    """
    tail: Tail | None = None
    """The law over the highest peaks, where the method has one."""
    groups: GroupCheck | None = None
    """Rejects of each group when it is left out, where groups were given."""
    target_escape_rate: Share | None = None
    """The share of escapes asked for, where it was set from defective frames."""
    escape_rate: Share | None = None
    """Share of the labelled defective frames that pass."""
    escape_interval: Interval | None = None
    """Two-sided 95 % Clopper–Pearson interval of that share."""
    defect_scores: DefectScores | None = None
    """What labelled defective frames scored."""
    n_defective: Annotated[int, Field(ge=0)] = 0
    """Labelled defective frames."""
    far_above_good: bool = False
    """true: it lies far above what good frames score, on purpose."""
    set_with: dict[str, JsonValue] | None = None
    """The settings it holds for, zones' thresholds among them; a recipe that was edited since is refused. null:
    unknown, or set by hand. A zone's threshold has none.
    """
    set_with_sha256: Sha256 | None = None
    """Checksum of `set_with`."""

    @property
    def set_by(self) -> Literal["calibration", "hand", "unknown"]:
        """Who answers for it: unknown where an edit by hand could not be noticed."""
        if self.method == "manual":
            return "hand"
        return "unknown" if self.set_with is None else "calibration"

    @model_validator(mode="after")
    def _sealed_whole(self) -> Threshold:
        if (self.set_with is None) != (self.set_with_sha256 is None):
            raise ValueError("set_with and set_with_sha256 must be given together or not at all")
        return self

    @model_validator(mode="after")
    def _warns_below(self) -> Threshold:
        if self.warn_above is not None and self.warn_above >= self.value:
            raise ValueError(f"warn_above must lie below value ({self.value}), got {self.warn_above}")
        return self
