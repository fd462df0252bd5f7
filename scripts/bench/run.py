#!/usr/bin/env python3
"""Measures faultlens beside what else runs the same model on a CPU: same weights, texts, tokens and threads.

    python3 -m venv .venv && .venv/bin/pip install -r scripts/bench/requirements.txt
    cargo build --release
    .venv/bin/python scripts/bench/run.py ISSUES... [--first 1000] [--runs 5] [--peers NAME...] [--markdown FILE]

Takes turns, prints medians. `encoder` is from tokens to logits. `all` is from file to labels: for faultlens a
whole process from raw issues, condensing and the words' branch included; for the others from texts that
faultlens has condensed, without the start of Python and the loading of the model. Agreement is the share of
labels, by the encoder's heads, that equal those of f32: PyTorch's for the peers, faultlens's for faultlens.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FAULTLENS = ROOT / "target/release/faultlens"
BUNDLE = ROOT / "models/default"
NAMES = ["PyTorch f32", "PyTorch bf16", "sentence-transformers", "ONNX Runtime f32", "ONNX Runtime int8"]


class Peer:
    def __init__(self, name, texts, folder):
        command = [sys.executable, Path(__file__).with_name("peer.py"), name, texts, BUNDLE, folder]
        self.process = subprocess.Popen(map(str, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.size = json.loads(self.process.stdout.readline())["size"]

    def measure(self, what):
        print(what, file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())["seconds"]

    def end(self):
        self.process.stdin.close()
        return json.loads(self.process.stdout.readline())["mebibytes"]


def classify(issues, precision, output):
    """Seconds and peak memory in MiB."""
    begun = time.monotonic()
    command = [FAULTLENS, "classify", issues, "--precision", precision, "-o", output, "--force", "--quiet"]
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"classify failed with status {status}"
    return time.monotonic() - begun, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("issues", nargs="+")
    parser.add_argument("--first", type=int, default=1000, help="issues, an equal part of each file")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peers", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        issues, texts = folder / "issues.json", folder / "texts.jsonl"
        part = -(-arguments.first // len(arguments.issues))
        chosen = [issue for path in arguments.issues for issue in json.load(open(path, encoding="utf-8"))[:part]]
        issues.write_text(json.dumps(chosen), encoding="utf-8")
        with open(texts, "wb") as file:
            subprocess.run([FAULTLENS, "text", issues, "--json", "--tokens", "256"], check=True, stdout=file)
        count = sum(1 for _ in open(texts, encoding="utf-8"))

        figures = {name: {"encoder": [], "all": []} for name in ["faultlens f32", "faultlens int8", *arguments.peers]}
        memory = dict.fromkeys(figures, 0.0)
        for run in range(arguments.runs):
            own = folder / "bench.json"
            subprocess.run([FAULTLENS, "bench", issues, "--runs", "1", "--json", own], check=True, stdout=subprocess.DEVNULL)
            report = json.loads(own.read_text(encoding="utf-8"))
            for row in report["precisions"]:
                name = f"faultlens {row['precision']}"
                seconds, peak = classify(issues, row["precision"], folder / f"{row['precision']}.jsonl")
                figures[name]["encoder"].append(row["encoder"][0])
                figures[name]["all"].append(seconds)
                figures[name]["same"] = row["same_labels"]
                memory[name] = max(memory[name], peak)
            # One at a time, so that no other's memory or threads are in the way.
            for name in arguments.peers:
                peer = Peer(name, texts, folder)
                for what in ["encoder", "all"]:
                    figures[name][what].append(peer.measure(what))
                figures[name]["size"] = peer.size
                memory[name] = max(memory[name], peer.end())
            print(f"run {run + 1} of {arguments.runs}", file=sys.stderr)

        labels = {}
        for name in arguments.peers:
            rows = [json.loads(line)["labels"] for line in open(folder / (name.replace(" ", "-") + ".jsonl"))]
            labels[name] = [label for row in rows for label in row]
        for name in labels if "PyTorch f32" in labels else []:
            pairs = list(zip(labels[name], labels["PyTorch f32"]))
            figures[name]["same"] = sum(a == b for a, b in pairs) / len(pairs)

    rate = {name: {what: count / statistics.median(row[what]) for what in ["encoder", "all"]} for name, row in figures.items()}
    best = {what: max(rate[name][what] for name in arguments.peers) for what in ["encoder", "all"]}
    lines = [
        f"{count} issues, {report['tokens']} tokens, {report['cores']} cores, medians of {arguments.runs} runs; ratios are to the fastest peer.",
        "",
        "| | encoder, issues/s | ratio | all, issues/s | ratio | peak memory | labels as f32 |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in figures.items():
        encoder, all = rate[name]["encoder"], rate[name]["all"]
        batch = f" (batches of {row['size']})" if "size" in row else ""
        same = f"{100 * row['same']:.2f} %" if "same" in row else "–"
        lines.append(
            f"| {name}{batch} | {encoder:.1f} | {encoder / best['encoder']:.2f} | {all:.1f} | {all / best['all']:.2f} "
            f"| {memory[name]:.0f} MiB | {same} |"
        )
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
