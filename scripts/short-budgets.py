#!/usr/bin/env python3
"""What would be saved by reading less of an issue and reading on only where the model is unsure.

    cargo build --release
    scripts/short-budgets.py ISSUES... [--labels eval/gold.jsonl]

Labels the issues that --labels names, which the model was not trained on, with the shipped model and with its
budget of tokens cut. Prints, for each shorter budget and probability that every head must reach, how many of
the issues longer than the budget would be done then, which share of all labels would stay as the whole budget
gives them, and which share of the tokens would be saved, the first reading counted. The labels in the file are
not looked at.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FAULTLENS = ROOT / "target/release/faultlens"


def rows(lines):
    return {(row["repo"], row["number"]): row for row in map(json.loads, lines)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("issues", nargs="+")
    parser.add_argument("--labels", type=Path, default=ROOT / "eval/gold.jsonl")
    arguments = parser.parse_args()
    unseen = rows(open(arguments.labels, encoding="utf-8"))

    def run(*command):
        output = subprocess.run(list(map(str, [FAULTLENS, *command])), check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return {id: row for id, row in rows(output.stdout.decode().splitlines()).items() if id in unseen}

    with tempfile.TemporaryDirectory() as folder:
        model = Path(shutil.copytree(ROOT / "models/default", Path(folder) / "model"))
        manifest = json.loads((model / "faultlens.json").read_text(encoding="utf-8"))
        whole_budget = manifest["text"]["max_tokens"]
        whole = run("classify", *arguments.issues, "--model", model)
        heads = list(next(iter(whole.values()))["probability"])

        def lengths(budget):
            # A word is 1.3 tokens or so; shares of tokens are shares of words.
            texts = run("text", *arguments.issues, "--json", "--tokens", budget)
            return {id: len(row["text"].split()) for id, row in texts.items()}

        words = lengths(whole_budget)
        print(f"{len(whole)} issues")
        for budget in [64, 96, 128]:
            manifest["text"]["max_tokens"] = budget
            (model / "faultlens.json").write_text(json.dumps(manifest), encoding="utf-8")
            short = run("classify", *arguments.issues, "--model", model)
            first = lengths(budget)
            longer = [id for id in whole if first[id] < words[id]]
            for least in [0.6, 0.7, 0.8, 0.9]:
                done = [id for id in longer if min(short[id]["probability"][head] for head in heads) >= least]
                changed = sum(short[id][head] != whole[id][head] for id in done for head in heads)
                saved = sum(words[id] for id in done) - sum(first[id] for id in longer)
                print(
                    f"{budget} tokens, {least}: {len(done) / len(longer):.2f} of {len(longer)} longer issues done, "
                    f"{1 - changed / len(heads) / len(whole):.4f} of labels kept, {saved / sum(words.values()):+.2f} of tokens saved"
                )


if __name__ == "__main__":
    main()
