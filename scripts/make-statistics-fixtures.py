#!/usr/bin/env python3
"""Writes the fixtures of calibration, selective prediction, agreement of annotators and tests between
models to tests/fixtures: inputs, and what the reference implementations say of them.

    pip install scikit-learn==1.9.* krippendorff==0.9.* statsmodels==0.15.*
    python scripts/make-statistics-fixtures.py

The result is the same each time. `null` stands for undefined.
"""

import json
import math
import random
import warnings
from pathlib import Path

import krippendorff
import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

OUT = Path(__file__).parent.parent / "tests" / "fixtures"


def tidy(value):
    return None if value is None or math.isnan(value) else round(float(value), 12)


def alpha_case(rng: random.Random) -> tuple[int, list[list[int | None]]]:
    """Up to five annotators who agree more or less often, some of whose labels are missing."""
    labels, annotators = rng.randint(2, 6), rng.randint(2, 5)
    agreement, missing = rng.random(), rng.choice([0, 0, 0.2, 0.6])
    weights = [rng.random() ** 2 for _ in range(labels)]
    units = []
    for _ in range(rng.randint(2, 40)):
        truth = rng.choices(range(labels), weights)[0]
        says = [truth if rng.random() < agreement else rng.randrange(labels) for _ in range(annotators)]
        units.append([None if rng.random() < missing else label for label in says])
    return labels, units


ALPHA_EDGES = {
    "perfect": (2, [[0, 0], [1, 1], [0, 0]]),
    "always different": (2, [[0, 1], [1, 0], [0, 1]]),
    "one label only": (3, [[1, 1], [1, 1]]),
    "one label but for a unit read once": (3, [[1, 1], [1, 1], [2, None]]),
    "no unit read twice": (2, [[0, None], [None, 1]]),
    "a label that does not occur": (4, [[0, 0], [3, 3], [0, 3]]),
    "nobody read a unit": (2, [[0, 0], [None, None], [1, 0]]),
    "Krippendorff's example": (
        6,
        [[1, 1, None, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4],
         [4, 4, 4, 4], [1, 1, 2, 1], [2, 2, 2, 2], [None, 5, 5, 5], [None, None, 1, 1], [None, 3, None, None]],
    ),
}


def alpha(labels: int, units) -> float | None:
    data = np.array([[np.nan if label is None else label for label in unit] for unit in units], dtype=float).T
    try:
        value = krippendorff.alpha(data, level_of_measurement="nominal", value_domain=list(range(labels)))
    except (ValueError, ZeroDivisionError, AssertionError):
        return None
    return tidy(value)


def probability_case(rng: random.Random) -> tuple[list[list[float]], list[int]]:
    """Distributions to four decimals, with ties, that are more or less right."""
    labels, n, sharp = rng.randint(2, 6), rng.randint(1, 60), rng.choice([0.5, 2, 8])
    distributions, truth = [], []
    for _ in range(n):
        logits = [rng.gauss(0, sharp) for _ in range(labels)]
        top = max(logits)
        weights = [math.exp(x - top) for x in logits]
        cut = rng.choice([10, 100, 10_000])
        units = [round(w / sum(weights) * cut) for w in weights]
        units[units.index(max(units))] += cut - sum(units)
        distributions.append([u / cut for u in units])
        truth.append(rng.choices(range(labels), distributions[-1])[0] if rng.random() < 0.8 else rng.randrange(labels))
    return distributions, truth


PROBABILITY_EDGES = {
    "certain and right": ([[1.0, 0.0], [0.0, 1.0]], [0, 1]),
    "certain and wrong": ([[1.0, 0.0], [0.0, 1.0]], [1, 0]),
    "all tied": ([[0.6, 0.4]] * 5, [0, 0, 1, 0, 1]),
    "on the bounds of bins": ([[0.7, 0.3], [0.8, 0.2], [0.9, 0.1], [0.7, 0.3], [0.5, 0.5]], [0, 0, 1, 1, 0]),
    "one answer": ([[0.25, 0.4, 0.35]], [1]),
}


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    accuracy, mean = calibration_curve(right, confidence, n_bins=10, strategy="uniform")
    bins = np.searchsorted(np.linspace(0, 1, 11)[1:-1], confidence)
    weight = np.bincount(bins, minlength=10)
    return float(np.abs(accuracy - mean) @ weight[weight > 0]) / len(right)


def aurc(confidence: np.ndarray, right: np.ndarray) -> float:
    """The mean risk over coverages 1/n..1; among equal confidences the expectation over random order."""
    risks, wrong = [], 0.0
    for level in sorted(set(confidence), reverse=True):
        members = confidence == level
        share = float(np.mean(~right[members]))
        for _ in range(int(members.sum())):
            wrong += share
            risks.append(wrong / (len(risks) + 1))
    return float(np.mean(risks))


def coverage(confidence: np.ndarray, right: np.ndarray, percent: int) -> float:
    """The largest share of answers above a threshold of which at least `percent` are right."""
    answered = [confidence >= level for level in set(confidence)]
    good = [int(a.sum()) for a in answered if 100 * int(right[a].sum()) >= percent * int(a.sum())]
    return max(good, default=0) / len(right)


def probability_row(name: str, distributions, truth) -> dict:
    p = np.array(distributions)
    predicted = p.argmax(axis=1)
    confidence, right = p.max(axis=1), predicted == np.array(truth)
    labels = list(range(p.shape[1]))
    # scikit-learn wants the probability of the greater label for two.
    y = p[:, 1] if p.shape[1] == 2 else p
    kind = dict(pos_label=1) if p.shape[1] == 2 else {}
    return {
        "name": name,
        "distributions": distributions,
        "truth": list(truth),
        "ece": tidy(calibration_error(confidence, right)),
        "brier": tidy(brier_score_loss(truth, y, labels=labels, scale_by_half=False, **kind)),
        "aurc": tidy(aurc(confidence, right)),
        "coverage": [tidy(coverage(confidence, right, percent)) for percent in (90, 95, 99)],
    }


def mcnemar_p(first: int, second: int) -> float:
    return tidy(mcnemar([[7, first], [second, 3]], exact=True).pvalue)


def write(name: str, rows: list) -> None:
    lines = [json.dumps(row, separators=(",", ":")) for row in rows]
    (OUT / name).write_text("[\n" + ",\n".join(lines) + "\n]\n")


def main() -> None:
    warnings.simplefilter("ignore")  # the undefined cases are wanted
    rng = random.Random(21)
    cases = dict(ALPHA_EDGES)
    cases.update({f"random {i}": alpha_case(rng) for i in range(200 - len(ALPHA_EDGES))})
    write(
        "alpha.json",
        [{"name": name, "labels": n, "units": units, "alpha": alpha(n, units)} for name, (n, units) in cases.items()],
    )

    cases = dict(PROBABILITY_EDGES)
    cases.update({f"random {i}": probability_case(rng) for i in range(200 - len(PROBABILITY_EDGES))})
    write("probabilities.json", [probability_row(name, *case) for name, case in cases.items()])

    counts = [(0, 0), (1, 0), (0, 1), (5, 5), (0, 2000), (3000, 3100)]
    counts += [(rng.randrange(60), rng.randrange(60)) for _ in range(190)]
    counts += [(rng.randrange(5000), rng.randrange(5000)) for _ in range(10)]
    families = [[0.04], [0.01, 0.01, 0.01], [0.5, 0.9, 0.001, 1.0]]
    families += [[round(rng.random() ** 3, 6) for _ in range(rng.randint(1, 12))] for _ in range(200)]
    tests = {
        "mcnemar": [(b, c, mcnemar_p(b, c)) for b, c in counts],
        "holm": [(ps, [tidy(p) for p in multipletests(ps, method="holm")[1]]) for ps in families],
    }
    (OUT / "comparison.json").write_text(json.dumps(tests, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
