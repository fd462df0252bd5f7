#!/usr/bin/env python3
"""Asks whether the heads' probabilities, taken together, give better labels than each head's own.

    pip install scikit-learn
    scripts/experiment plain "ISSUES.json..."
    scripts/joint-decoding.py target/experiments/plain.jsonl

Fits a multinomial logistic regression a head on the logarithms of all heads' probabilities, and on those of
the head alone, in two repetitions of a five-fold cross-validation over predictions of issues that the models
were not trained on; prints kappa and macro-F1 beside those of the labels as they are. Gold is not touched.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score, f1_score
from sklearn.model_selection import KFold

ROOT = Path(__file__).resolve().parent.parent
HEADS = ["kind", "category", "root_cause"]
LEAST = 5e-5  # half of what files round to


def read(path):
    return {(row["repo"], row["number"]): row for row in map(json.loads, open(path, encoding="utf-8"))}


def main():
    warnings.filterwarnings("ignore")
    predictions, labels = read(sys.argv[1]), read(ROOT / "training-data/labels.jsonl")
    ids = [id for id in labels if id in predictions]

    def logarithms(head):
        rows = [list(predictions[id]["distribution"][head].values()) for id in ids]
        return np.log(np.maximum(rows, LEAST))

    own = {head: logarithms(head) for head in HEADS}
    together = np.hstack(list(own.values()))
    print("| head | labels from | kappa | macro-F1 |\n|---|---|---|---|")
    for head in HEADS:
        truth = np.array([labels[id][head] for id in ids])

        def show(name, predicted):
            kappa, f1 = cohen_kappa_score(truth, predicted), f1_score(truth, predicted, average="macro")
            print(f"| {head} | {name} | {kappa:.3f} | {f1:.3f} |", flush=True)

        show("the model", np.array([predictions[id][head] for id in ids]))
        for name, features in [("its own probabilities", own[head]), ("all heads' probabilities", together)]:
            for strength in [0.01, 0.03, 0.1]:
                for seed in range(2):
                    predicted = np.empty(len(ids), dtype=truth.dtype)
                    for train, test in KFold(5, shuffle=True, random_state=seed).split(truth):
                        regression = LogisticRegression(C=strength, max_iter=300).fit(features[train], truth[train])
                        predicted[test] = regression.predict(features[test])
                    show(f"{name}, C = {strength}, repetition {seed + 1}", predicted)


if __name__ == "__main__":
    main()
