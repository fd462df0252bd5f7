#!/usr/bin/env python3
"""Measures faultlens beside what else runs the same model on a CPU: same weights, texts, tokens and threads.

    python3 -m venv .venv && .venv/bin/pip install -r scripts/bench/requirements.txt
    cargo build --release
    .venv/bin/python scripts/bench/run.py ISSUES... [--first 1000] [--runs 5] [--peers NAME...] [--end-to-end] [--markdown FILE]

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
    parser.add_argument("--end-to-end", action="store_true", help="measure `all` alone, faultlens in int8 alone")
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

        precisions = ["int8"] if arguments.end_to_end else ["f32", "int8"]
        measured = ["all"] if arguments.end_to_end else ["encoder", "all"]
        names = [f"faultlens {precision}" for precision in precisions] + arguments.peers
        figures = {name: {what: [] for what in measured} for name in names}
        memory = dict.fromkeys(figures, 0.0)
        for run in range(arguments.runs):
            if not arguments.end_to_end:
                own = folder / "bench.json"
                subprocess.run([FAULTLENS, "bench", issues, "--runs", "1", "--json", own], check=True, stdout=subprocess.DEVNULL)
                for row in json.loads(own.read_text(encoding="utf-8"))["precisions"]:
                    figures[f"faultlens {row['precision']}"]["encoder"].append(row["encoder"][0])
                    figures[f"faultlens {row['precision']}"]["same"] = row["same_labels"]
            for precision in precisions:
                name = f"faultlens {precision}"
                seconds, peak = classify(issues, precision, folder / f"{precision}.jsonl")
                figures[name]["all"].append(seconds)
                memory[name] = max(memory[name], peak)
            # One at a time, so that no other's memory or threads are in the way.
            for name in arguments.peers:
                peer = Peer(name, texts, folder)
                for what in measured:
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

    rate = {name: {what: count / statistics.median(row[what]) for what in measured} for name, row in figures.items()}
    best = {what: max(rate[name][what] for name in arguments.peers) for what in measured}
    titles = "".join(f" {what}, issues/s | ratio |" for what in measured)
    lines = [
        f"{count} issues, {os.cpu_count()} cores, medians of {arguments.runs} runs; ratios are to the fastest peer.",
        "",
        f"| |{titles} peak memory | labels as f32 |",
        "|---|" + "---:|---:|" * len(measured) + "---:|---:|",
    ]
    for name, row in figures.items():
        batch = f" (batches of {row['size']})" if "size" in row else ""
        rates = "".join(f" {rate[name][what]:.1f} | {rate[name][what] / best[what]:.2f} |" for what in measured)
        same = f"{100 * row['same']:.2f} %" if "same" in row else "–"
        lines.append(f"| {name}{batch} |{rates} {memory[name]:.0f} MiB | {same} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
