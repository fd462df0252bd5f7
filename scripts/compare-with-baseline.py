#!/usr/bin/env python3
"""Measures the shipped model and a TF-IDF baseline on gold, side by side.

    pip install scikit-learn
    cargo build --release
    scripts/compare-with-baseline.py ISSUES.json... [--model DIR]

The baseline is what one tries first: TF-IDF of words, word pairs and character 3- to 5-grams of title
and body, and a class-balanced logistic regression a head, trained on the annotations the model was trained on. Both
label the gold issues found in ISSUES, with `none` where a head does not apply. Figures are
scikit-learn's.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score
from sklearn.pipeline import make_pipeline, make_union

ROOT = Path(__file__).resolve().parent.parent
HEADS = ["kind", "category", "root_cause"]


def read_jsonl(path):
    return {(row["repo"], row["number"]): row for row in map(json.loads, open(path, encoding="utf-8"))}


def read_issues(paths):
    texts = {}
    for path in paths:
        for issue in json.load(open(path, encoding="utf-8")):
            repo = "/".join(issue["html_url"].split("/")[3:5])
            texts[repo, issue["number"]] = f"{issue['title']}\n{issue['body'] or ''}"
    return texts


def baseline(train_texts, train_labels, texts):
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, min_df=3, max_features=200_000)
    features = make_union(words, characters)
    train = features.fit_transform(train_texts)
    test = features.transform(texts)
    predictions = {}
    for head in HEADS:
        # Strength and balance were the best of four tried on a validation split of the annotations.
        regression = OneVsRestClassifier(
            LogisticRegression(C=30, class_weight="balanced", solver="liblinear", dual=True, max_iter=200)
        )
        predictions[head] = regression.fit(train, [label[head] for label in train_labels]).predict(test)
    return predictions


def faultlens(paths, model, ids):
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "predictions.jsonl"
        command = [ROOT / "target/release/faultlens", "classify", *paths, "-o", output, "--quiet"]
        subprocess.run(command + (["--model", model] if model else []), check=True)
        rows = read_jsonl(output)
    return {head: [rows[id][head] for id in ids] for head in HEADS}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("issues", nargs="+")
    parser.add_argument("--model", help="model folder (default: the shipped one)")
    parser.add_argument("--labels", default=ROOT / "training-data/labels.jsonl")
    parser.add_argument("--gold", default=ROOT / "eval/gold.jsonl")
    arguments = parser.parse_args()

    texts = read_issues(arguments.issues)
    train, gold = read_jsonl(arguments.labels), read_jsonl(arguments.gold)
    train_ids = [id for id in train if id in texts]
    ids = [id for id in gold if id in texts]
    if len(ids) < len(gold) or len(train_ids) < len(train):
        print(f"texts of {len(train_ids)} of {len(train)} annotations and {len(ids)} of {len(gold)} gold issues", file=sys.stderr)

    systems = {
        "TF-IDF + logistic regression": baseline(
            [texts[id] for id in train_ids], [train[id] for id in train_ids], [texts[id] for id in ids]
        ),
        "faultlens": faultlens(arguments.issues, arguments.model, ids),
    }
    print(f"{len(ids)} gold issues")
    print("| system | head | accuracy | kappa | macro-F1 |\n|---|---|---|---|---|")
    for name, predictions in systems.items():
        for head in HEADS:
            truth, predicted = [gold[id][head] for id in ids], list(predictions[head])
            figures = [
                accuracy_score(truth, predicted),
                cohen_kappa_score(truth, predicted),
                f1_score(truth, predicted, average="macro"),
            ]
            print(f"| {name} | {head} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |")


if __name__ == "__main__":
    main()
