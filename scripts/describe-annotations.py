#!/usr/bin/env python3
"""Prints, as Markdown, the figures of the datasheets in training-data/ and eval/.

    python scripts/describe-annotations.py training-data/labels.jsonl
    python scripts/describe-annotations.py eval/gold.jsonl
    python scripts/describe-annotations.py training-data/labels.jsonl eval/gold.jsonl --issues ISSUES.json ...

Agreement is printed where issues were read twice, and agreement with GitHub's own labels where the
issues are given (JSON arrays as GitHub's REST API returns them). Needs Python only.
"""

import argparse
import json
from collections import Counter

HEADS = ("kind", "category", "root_cause")

# GitHub labels that say what kind an issue is, as the three projects use them.
KINDS = {
    "bug": "bug",
    "bug-unconfirmed": "bug",
    "feature": "feature",
    "feature request": "feature",
    "enhancement": "feature",
    "new-model": "feature",
    "RFC": "feature",
    "question": "question",
    "usage": "question",
}
# GitHub labels that say which category a bug belongs to.
CATEGORIES = {"performance": "performance", "installation": "build", "ray": "distributed"}


def agreement(pairs: list[tuple[str, str]]) -> str:
    """Observed agreement and Cohen's kappa of pairs of labels."""
    n = len(pairs)
    observed = sum(a == b for a, b in pairs) / n
    first, second = (Counter(side) for side in zip(*pairs))
    chance = sum(first[label] * second[label] for label in first) / n**2
    return f"{observed:.3f} | {(observed - chance) / (1 - chance):.3f}"


def distribution(annotations: list[dict]) -> None:
    for name in ("repo", "confidence", *HEADS):
        counts = Counter(annotation[name] for annotation in annotations)
        print(f"\n| {name} | issues | share |\n|---|---|---|")
        for label, count in counts.most_common():
            print(f"| {label} | {count:,} | {count / len(annotations):.1%} |")


def readings(annotations: list[dict]) -> None:
    twice = [annotation for annotation in annotations if "first" in annotation]
    if not twice:
        return
    pairs = [(annotation["first"], annotation["second"]) for annotation in twice]
    bugs = [pair for pair in pairs if all(reading["kind"] == "bug" for reading in pair)]
    print("\n| two readings | issues | agreement | Cohen's kappa |\n|---|---|---|---|")
    for head in HEADS:
        for name, some in ((head, pairs), (f"{head}, both say bug", bugs)):
            if some is pairs or head != "kind":
                print(f"| {name} | {len(some)} | {agreement([(a[head], b[head]) for a, b in some])} |")
    differ = [annotation for annotation in twice if annotation["first"] != annotation["second"]]
    low = sum(annotation["confidence"] == "low" for annotation in differ)
    print(f"\n{len(differ)} issues were read differently; {low} of them have confidence low.")


def against_github(annotations: list[dict], paths: list[str]) -> None:
    labels = {}
    for path in paths:
        for issue in json.load(open(path)):
            repo = "/".join(issue["html_url"].split("/")[3:5])
            labels[repo, issue["number"]] = {label["name"] for label in issue["labels"]}
    known = [(a, labels[a["repo"], a["number"]]) for a in annotations if (a["repo"], a["number"]) in labels]
    print(f"\n{len(known)} of {len(annotations)} issues found.")
    pairs = []
    for annotation, names in known:
        kinds = {KINDS[name] for name in names if name in KINDS}
        if len(kinds) == 1:
            pairs.append((kinds.pop(), annotation["kind"]))
    print("\n| GitHub labels and kind | issues | agreement | Cohen's kappa |\n|---|---|---|---|")
    print(f"| kind | {len(pairs)} | {agreement(pairs)} |\n")
    for name, category in CATEGORIES.items():
        found = [a["category"] for a, names in known if name in names and a["kind"] == "bug"]
        print(f"Bugs labelled `{name}` on GitHub: {found.count(category)} of {len(found)} are `{category}`.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("annotations", nargs="+", help="JSONL files of annotations")
    parser.add_argument("--issues", nargs="+", default=[], help="JSON files of the issues")
    arguments = parser.parse_args()
    annotations = [json.loads(line) for path in arguments.annotations for line in open(path)]
    print(f"{len(annotations):,} annotations")
    distribution(annotations)
    readings(annotations)
    if arguments.issues:
        against_github(annotations, arguments.issues)


if __name__ == "__main__":
    main()
