#!/usr/bin/env python3
"""Holds a study's estimates against annotations of all its issues, which the sample has.

Usage: scripts/check-study.py STUDY.json ANNOTATIONS.jsonl...
"""
import json
import sys

findings = json.load(open(sys.argv[1]))
rows = [json.loads(line) for path in sys.argv[2:] for line in open(path)]
held, labels, alone = 0, 0, []
for head in findings["heads"]:
    applies = [row for row in rows if row[head["head"]] != "none"]
    for label in head["labels"]:
        truth = sum(row[head["head"]] == label["label"] for row in applies) / len(applies)
        estimate, gold = label["share"]["estimate"], label["share"]["gold_alone"]
        held += estimate["low"] <= truth <= estimate["high"]
        labels += 1
        alone.append((estimate["high"] - estimate["low"]) / (gold["high"] - gold["low"]))
alone.sort()
print(f"{held} of {labels} intervals hold the share among all {len(rows)} annotations; "
      f"median width against gold alone {alone[len(alone) // 2]:.2f}")
