#!/usr/bin/env python3
"""Measures the time of `faultlens eval` on invented gold annotations and predictions: median of some runs.

    cargo build --release
    scripts/measure-eval.py [--issues 100000] [--resamples 10000] [--runs 3]
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def invent(heads, rng):
    """One issue's labels, and distributions whose likeliest label is right as often as they say."""
    is_bug = rng.random() < 0.6
    labels, distribution = {}, {}
    for name, names in heads.items():
        if name == "kind":
            labels[name] = "bug" if is_bug else rng.choice(names[1:])
        else:
            labels[name] = rng.choice(names) if is_bug else "none"
            names = names + ["none"]
        p = round(rng.uniform(0.4, 0.99), 4)
        guess = labels[name] if rng.random() < p else rng.choice(names)
        distribution[name] = {other: round((1 - p) / (len(names) - 1), 4) for other in names} | {guess: p}
    return labels, distribution


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--issues", type=int, default=100_000)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()

    taxonomy = tomllib.loads((ROOT / "training-data/taxonomy.toml").read_text(encoding="utf-8"))
    heads = {head["name"]: [label["name"] for label in head["labels"]] for head in taxonomy["heads"]}
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        gold, predictions = Path(folder) / "gold.jsonl", Path(folder) / "predictions.jsonl"
        with open(gold, "w") as gold_file, open(predictions, "w") as predictions_file:
            for number in range(1, arguments.issues + 1):
                labels, distribution = invent(heads, rng)
                id = {"repo": "invented/issues", "number": number}
                guesses = {name: max(shares, key=shares.get) for name, shares in distribution.items()}
                if guesses["kind"] != "bug":
                    guesses |= {name: "none" for name in heads if name != "kind"}
                elif "none" in guesses.values():
                    guesses = {name: heads[name][0] if guess == "none" else guess for name, guess in guesses.items()}
                probability = {name: distribution[name][guess] for name, guess in guesses.items()}
                gold_file.write(json.dumps(id | labels) + "\n")
                row = id | guesses | {"probability": probability, "distribution": distribution, "abstained": [], "model": "invented"}
                predictions_file.write(json.dumps(row) + "\n")
        command = [ROOT / "target/release/faultlens", "eval", "--gold", gold, "--predictions", predictions]
        times = []
        for _ in range(arguments.runs):
            begun = time.monotonic()
            subprocess.run(command + ["--resamples", str(arguments.resamples)], check=True, stdout=subprocess.DEVNULL)
            times.append(time.monotonic() - begun)
            print(f"{times[-1]:.1f} s")
    print(f"median {statistics.median(times):.1f} s: {arguments.issues} issues, {arguments.resamples} resamples, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
