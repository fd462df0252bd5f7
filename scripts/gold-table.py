#!/usr/bin/env python3
"""Prints, as a Markdown table, what reports of `faultlens eval --json` say of each model and head.

    scripts/gold-table.py eval/results/default.json
"""

import json
import sys


def figure(estimate):
    if estimate is None or estimate["value"] is None:
        return "–"
    value = f"{estimate['value']:.3f}"
    return value if estimate["low"] is None else f"{value} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def main():
    print("| model | head | accuracy | kappa | macro-F1 | calibration error | coverage at 95 % precision |")
    print("|---|---|---|---|---|---|---|")
    for model in json.load(open(sys.argv[1], encoding="utf-8"))["models"]:
        for head in model["heads"]:
            of_all = head["all"]
            ece = (head.get("calibration") or {}).get("ece")
            coverage = next((at["coverage"] for at in (head.get("selective") or {}).get("coverage_at", []) if at["precision"] == 0.95), None)
            figures = [of_all["accuracy"], of_all["kappa"], of_all["macro_f1"], ece, coverage]
            print(f"| {model['name']} | {head['head']} | " + " | ".join(map(figure, figures)) + " |")


if __name__ == "__main__":
    main()
