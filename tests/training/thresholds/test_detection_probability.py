"""Probability of detection: the fit is the known one, and its bound holds as often as it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression

from inspector.config.qualification import DefectKind, DetectionCurve
from inspector.errors import TrainingError
from inspector.training.thresholds.detection_probability import (
    build_qualification,
    compute_pass_share,
    find_a90_95,
    fit_detection,
)
from inspector.training.thresholds.qualification import Response

TRUE = np.array([-14.0, 2.5, 3.0])


def draw_sizes(n: int, generator: np.random.Generator) -> tuple[Any, Any]:
    return np.exp(generator.uniform(0, np.log(32), n)), np.exp(generator.uniform(np.log(5), np.log(120), n))


def respond(sizes: Any, contrasts: Any, caught: Any) -> list[Response]:
    values = zip(sizes, contrasts, caught, strict=True)
    return [Response(DefectKind.SPOT, float(s), float(c), 2.0 if hit else 1.0) for s, c, hit in values]


def simulate(n: int, generator: np.random.Generator) -> list[Response]:
    sizes, contrasts = draw_sizes(n, generator)
    share = expit(TRUE[0] + TRUE[1] * np.log(sizes) + TRUE[2] * np.log(contrasts))
    return respond(sizes, contrasts, generator.random(n) < share)


def compute_true(size: float, contrast: float) -> float:
    return float(expit(TRUE @ [1, np.log(size), np.log(contrast)]))


@pytest.fixture(scope="module")
def curves() -> list[DetectionCurve]:
    generator = np.random.default_rng(8)
    return [fit_detection(simulate(120, generator), 1.5) for _ in range(300)]


@pytest.mark.parametrize(("size", "contrast"), [(2.0, 30.0), (3.0, 30.0), (6.0, 30.0), (10.0, 15.0), (3.0, 120.0)])
def test_lower_bound_holds_in_95_of_100_simulations(curves: Any, size: float, contrast: float) -> None:
    true = compute_true(size, contrast)
    held = np.mean([curve.compute_lower_bound(size, contrast) <= true for curve in curves])
    assert 0.925 <= held <= 0.995
    assert np.mean([curve.compute_probability(size, contrast) for curve in curves]) == pytest.approx(true, abs=0.02)
    assert np.mean([curve.compute_lower_bound(size, contrast, 0.5) <= true for curve in curves]) < 0.75


@pytest.mark.parametrize("contrast", [30.0, 60.0, 120.0])
def test_a90_95_is_too_small_in_at_most_5_of_100_simulations(curves: Any, contrast: float) -> None:
    smallest = np.exp((np.log(9) - TRUE[0] - TRUE[2] * np.log(contrast)) / TRUE[1])
    found = [find_a90_95(curve, contrast) for curve in curves]
    assert np.mean([size is None or size >= smallest for size in found]) >= 0.93
    assert np.median([size for size in found if size is not None]) < 2 * smallest  # and it says something


def test_fit_is_the_maximum_of_likelihood_when_defects_are_many() -> None:
    responses = simulate(4000, np.random.default_rng(1))
    terms = np.log([[each.size_px, each.contrast] for each in responses])
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        terms, [each.response > 1.5 for each in responses]
    )
    curve = fit_detection(responses, 1.5)
    assert curve.coefficients == pytest.approx([*peer.intercept_, *peer.coef_[0]], rel=0.01)
    design = np.column_stack([np.ones(len(terms)), terms])
    share = peer.predict_proba(terms)[:, 1]
    covariance = np.linalg.inv(design.T @ (design * (share * (1 - share))[:, None]))
    assert np.array(curve.covariance) == pytest.approx(covariance, rel=0.05)


def test_fit_is_firths_when_the_closed_form_is_known() -> None:
    """With nothing but an intercept Firth's share is (caught + 1/2) / (n + 1)."""
    curve = fit_detection(respond([4.0] * 10, [30.0] * 10, [True] * 10), 1.5)
    assert curve.compute_probability(4.0, 30.0) == pytest.approx(10.5 / 11)
    assert curve.coefficients[1:] == (0, 0)


def test_fit_stays_finite_when_a_size_separates_caught_from_missed() -> None:
    sizes, contrasts = draw_sizes(60, np.random.default_rng(2))
    curve = fit_detection(respond(sizes, contrasts, sizes > 5), 1.5)
    assert np.isfinite(curve.covariance).all()
    assert curve.coefficients[1] > 2
    size = find_a90_95(curve, 60.0)
    assert size is not None
    assert 5 < size < 20


def test_all_caught_is_good_from_the_smallest_on_and_none_caught_at_no_size() -> None:
    sizes, contrasts = draw_sizes(120, np.random.default_rng(3))
    every, none = (fit_detection(respond(sizes, contrasts, [hit] * 120), 1.5) for hit in (True, False))
    assert (every.caught, none.caught) == (120, 0)
    found = find_a90_95(every, 60.0)
    assert found is not None
    assert found < 2
    assert {each.size_px for each in none.a90_95} == {None}
    assert every.rises
    assert none.rises


def test_slope_that_falls_by_chance_is_none_and_one_that_falls_beyond_it_says_nothing() -> None:
    generator = np.random.default_rng(5)
    sizes, contrasts = draw_sizes(120, generator)
    falling = fit_detection(respond(sizes, contrasts, sizes < 5), 1.5)
    assert not falling.rises
    assert {each.size_px for each in falling.a90_95} == {None}
    curves = [fit_detection(respond(sizes, contrasts, generator.random(120) < 0.95), 1.5) for _ in range(20)]
    usable = [curve for curve in curves if curve.rises]
    assert len(usable) > 15
    assert any(curve.coefficients[1] == 0 for curve in usable)
    assert all(min(curve.coefficients[1:]) >= 0 for curve in usable)


def test_threshold_itself_is_not_above_it() -> None:
    responses = simulate(50, np.random.default_rng(6))
    assert fit_detection(responses, 2.0).caught == 0
    assert compute_pass_share(responses, 2.0).all.share == 1


def test_fit_is_refused_without_responses_or_with_one_that_is_not_finite() -> None:
    bad = Response(DefectKind.SPOT, 1.0, 5.0, float("nan"))
    for responses in ([], [bad]):
        with pytest.raises(TrainingError, match="at least one finite response"):
            fit_detection(responses, 1.0)


def test_qualification_has_a_curve_for_each_kind_tried_and_states_each_contrast() -> None:
    responses = simulate(200, np.random.default_rng(7))
    lines = [Response(DefectKind.LINE, each.size_px, each.contrast, each.response) for each in responses[:80]]
    found = build_qualification([*responses, *lines], 1.5, 12)
    assert {kind: curve.n for kind, curve in found.kinds.items()} == {DefectKind.LINE: 80, DefectKind.SPOT: 200}
    assert found.kinds[DefectKind.LINE] == fit_detection(lines, 1.5)
    assert [each.contrast for each in found.kinds[DefectKind.SPOT].a90_95] == [15, 30, 60, 120]
    assert (found.threshold, found.n_frames) == (1.5, 12)


def test_pass_share_counts_what_escapes_with_its_exact_interval() -> None:
    spots = respond([4.0] * 10, [30.0] * 10, [True] * 7 + [False] * 3)
    dents = [Response(DefectKind.DENT, 4.0, 30.0, value) for value in (1.0, 1.5, 2.0, 3.0)]
    shares = compute_pass_share([*spots, *dents], 1.5)
    assert (shares.all.n, shares.all.passed) == (14, 5)
    assert shares.by_kind[DefectKind.DENT].passed == 2
    assert shares.by_kind[DefectKind.SPOT].share == pytest.approx(0.3)
    exact = binomtest(3, 10).proportion_ci(0.95, "exact")
    assert shares.by_kind[DefectKind.SPOT].interval == pytest.approx((exact.low, exact.high))
    assert DefectKind.LINE not in shares.by_kind
    with pytest.raises(TrainingError, match="at least one response"):
        compute_pass_share([], 1.0)
