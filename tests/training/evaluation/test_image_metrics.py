"""Metrics of scores against counting by hand, scikit-learn and the peer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from inspector.training.evaluation.image_metrics import compute_image_metrics


def _draw(seed: int, decimals: int) -> tuple[list[str], list[float]]:
    generator = np.random.default_rng(seed)
    kinds = generator.choice(["good", "dent", "hole"], 200)
    scores = generator.normal(size=200) + (kinds != "good")
    return kinds.tolist(), scores.round(decimals).tolist()  # few decimals: ties


def test_image_metrics_are_those_counted_by_hand() -> None:
    kinds = ["good", "good", "good", "dent", "dent", "hole"]
    metrics = compute_image_metrics(kinds, [0.1, 0.2, 0.6, 0.5, 0.7, 0.9], threshold=0.55)
    assert metrics["image_auroc"] == pytest.approx(8 / 9)
    assert metrics["false_reject_rate"] == pytest.approx(1 / 3)
    assert metrics["escape_rate"] == pytest.approx(1 / 3)
    assert metrics["f1_max"] == pytest.approx(6 / 7)
    assert (metrics["n_good"], metrics["n_defective"]) == (3, 3)
    assert {kind: row["image_auroc"] for kind, row in metrics["by_kind"].items()} == {
        "dent": pytest.approx(5 / 6),
        "hole": 1.0,
    }
    assert {kind: (row["n"], row["escape_rate"]) for kind, row in metrics["by_kind"].items()} == {
        "dent": (2, 0.5),
        "hole": (1, 0.0),
    }


def test_intervals_are_clopper_and_pearsons_on_both_sides() -> None:
    kinds = ["good"] * 10 + ["dent"] * 5
    metrics = compute_image_metrics(kinds, [0.0] * 9 + [1.0] + [1.0] * 5, threshold=0.5)
    assert metrics["false_reject_interval"] == pytest.approx(
        [stats.beta.ppf(0.025, 1, 10), stats.beta.ppf(0.975, 2, 9)]
    )
    assert metrics["escape_interval"] == pytest.approx([0.0, 1 - 0.025 ** (1 / 5)])
    assert metrics["by_kind"]["dent"]["escape_interval"] == metrics["escape_interval"]


def test_a_score_at_the_threshold_passes_as_in_the_daemon() -> None:
    metrics = compute_image_metrics(["good", "dent"], [0.5, 0.5], threshold=0.5)
    assert (metrics["false_reject_rate"], metrics["escape_rate"]) == (0.0, 1.0)


@pytest.mark.parametrize("decimals", [1, 6])
def test_auroc_agrees_with_scikit_learn(decimals: int) -> None:
    kinds, scores = _draw(0, decimals)
    expected = roc_auc_score([kind != "good" for kind in kinds], scores)
    assert compute_image_metrics(kinds, scores, 0.5)["image_auroc"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("decimals", [1, 6])
def test_average_precision_agrees_with_scikit_learn(decimals: int) -> None:
    kinds, scores = _draw(1, decimals)
    expected = average_precision_score([kind != "good" for kind in kinds], scores)
    assert compute_image_metrics(kinds, scores, 0.5)["image_ap"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("decimals", [1, 6])
def test_f1_max_agrees_with_scikit_learns_f1_at_every_threshold(decimals: int) -> None:
    kinds, scores = _draw(2, decimals)
    truth = [kind != "good" for kind in kinds]
    expected = max(f1_score(truth, np.asarray(scores) >= level) for level in set(scores))
    assert compute_image_metrics(kinds, scores, 0.5)["f1_max"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.filterwarnings("ignore")  # the peer's own
def test_f1_max_agrees_with_anomalib() -> None:
    torch = pytest.importorskip("torch")
    peer = pytest.importorskip("anomalib.metrics.f1_score", reason="anomalib is not installed (extra: bench)")
    kinds, scores = _draw(3, 1)
    metric = peer._F1Max()
    metric.update(torch.tensor(scores), torch.tensor([int(kind != "good") for kind in kinds]))
    assert compute_image_metrics(kinds, scores, 0.5)["f1_max"] == pytest.approx(float(metric.compute()), abs=1e-4)
