#!/usr/bin/env python3
"""Writes tests/fixtures/metrics.json: label pairs and what scikit-learn says of them.

    pip install scikit-learn==1.9.*
    python scripts/make-metric-fixtures.py

The result is the same each time. `null` stands for scikit-learn's NaN.
"""

import json
import math
import random
import warnings
from pathlib import Path

from sklearn import metrics

OUT = Path(__file__).parent.parent / "tests" / "fixtures" / "metrics.json"


def expected(labels: int, truth: list[int], predicted: list[int]) -> dict:
    """scikit-learn's value of every measure; per label over all `labels`, averages over those
    that occur, and over those but the last."""
    each = dict(labels=range(labels), average=None, zero_division=0)
    values = {
        "precision": metrics.precision_score(truth, predicted, **each).tolist(),
        "recall": metrics.recall_score(truth, predicted, **each).tolist(),
        "f1": metrics.f1_score(truth, predicted, **each).tolist(),
        "accuracy": metrics.accuracy_score(truth, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, predicted),
        "kappa": metrics.cohen_kappa_score(truth, predicted),
        "matthews": metrics.matthews_corrcoef(truth, predicted),
    }
    for average in ("macro", "weighted", "micro"):
        values[f"{average}_f1"] = metrics.f1_score(truth, predicted, average=average, zero_division=0)
        some = sorted((set(truth) | set(predicted)) - {labels - 1})
        values[f"{average}_f1_without_last"] = (
            metrics.f1_score(truth, predicted, labels=some, average=average, zero_division=0) if some else 0
        )
    return {name: tidy(value) for name, value in values.items()}


def tidy(value):
    if isinstance(value, list):
        return [tidy(v) for v in value]
    return None if math.isnan(value) else round(float(value), 12)


def random_case(rng: random.Random) -> tuple[int, list[int], list[int]]:
    """Pairs that agree more or less often, over labels of which some may not occur."""
    labels = rng.randint(2, 6)
    size = rng.randint(1, 40)
    weights = [rng.random() ** 3 for _ in range(labels)]
    agreement = rng.random()
    truth = rng.choices(range(labels), weights, k=size)
    guesses = rng.choices(range(labels), weights[::-1], k=size)
    predicted = [t if rng.random() < agreement else g for t, g in zip(truth, guesses)]
    return labels, truth, predicted


EDGES = {
    "perfect": (3, [0, 1, 2, 1], [0, 1, 2, 1]),
    "inverse": (2, [0, 1, 0, 1], [1, 0, 1, 0]),
    "one class only": (3, [1, 1, 1], [1, 1, 1]),
    "one class, always wrong": (3, [0, 0, 0], [2, 2, 2]),
    "one pair": (2, [0], [1]),
    "constant prediction": (3, [0, 1, 2, 2, 1], [1, 1, 1, 1, 1]),
    "constant truth": (3, [1, 1, 1, 1, 1], [0, 1, 2, 2, 1]),
    "a label never predicted": (3, [0, 0, 1, 2, 2], [0, 1, 1, 0, 1]),
    "a label absent from truth": (3, [0, 0, 1, 1, 0], [0, 2, 1, 2, 1]),
    "a label absent from both": (4, [0, 1, 3, 3, 1], [0, 3, 3, 1, 1]),
}


def main() -> None:
    warnings.simplefilter("ignore")  # the undefined cases are wanted
    rng = random.Random(20)
    cases = dict(EDGES)
    cases.update({f"random {i}": random_case(rng) for i in range(190)})
    lines = [
        json.dumps(
            {"name": name, "labels": n, "truth": t, "predicted": p, "expected": expected(n, t, p)},
            separators=(",", ":"),
        )
        for name, (n, t, p) in cases.items()
    ]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
