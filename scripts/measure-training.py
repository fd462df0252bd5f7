#!/usr/bin/env python3
"""Measures an epoch of training, by faultlens and by PyTorch on the same texts, alternating.

    pip install torch transformers
    scripts/fetch-base-model && cargo build --release
    scripts/measure-training.py ISSUES.json... [--examples 640] [--runs 3]

Both train all parameters of the base model on the first annotations: the same texts, tokens (256 at most),
issues a step (16), optimizer, dropout and threads (all cores). An epoch's seconds are a third of what four
epochs take longer than one, so that loading, tokenising and the lexical branch do not count. Prints medians,
their ratio and peak memory.
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

import baselines

ROOT = Path(__file__).resolve().parent.parent


def pytorch(data, epochs):
    """What a process of its own does."""
    data = json.load(open(data, encoding="utf-8"))
    baselines.fine_tune(data["texts"], data["labels"], epochs)


def measure(command):
    """Seconds and peak memory in MiB."""
    begun = time.monotonic()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    complaint = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, complaint
    return time.monotonic() - begun, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("issues", nargs="*")
    parser.add_argument("--examples", type=int, default=640)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--pytorch", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.pytorch:
        return pytorch(arguments.pytorch[0], int(arguments.pytorch[1]))

    arguments.labels, arguments.gold = ROOT / "training-data/labels.jsonl", os.devnull
    task = baselines.Task(arguments)
    ids = task.train[: arguments.examples]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        rows = baselines.read_jsonl(arguments.labels)
        with open(folder / "labels.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(rows[id]) + "\n" for id in ids)
        labels = {head: [rows[id][head] for id in ids] for head in baselines.HEADS}
        (folder / "data.json").write_text(json.dumps({"texts": task.condensed(ids), "labels": labels}), encoding="utf-8")

        def faultlens(epochs):
            command = [ROOT / "target/release/faultlens", "train", "--base", baselines.BASE, "--issues", *task.paths]
            command += ["--labels", folder / "labels.jsonl", "--validation", "0", "--epochs", epochs]
            return measure([*command, "--checkpoint-steps", "100000", "--force", "-o", folder / "model"])

        def torch(epochs):
            return measure([sys.executable, __file__, "--pytorch", folder / "data.json", epochs])

        results = {"faultlens": [], "PyTorch": []}
        for run in range(arguments.runs):
            for name, train in [("faultlens", faultlens), ("PyTorch", torch)]:
                (short, _), (long, memory) = train(1), train(4)
                results[name].append(((long - short) / 3, memory))
                seconds = results[name][-1][0]
                print(f"run {run + 1}: {name} {seconds:.1f} s an epoch of {len(ids)} issues, {memory:.0f} MiB at peak", flush=True)
    medians = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in results.items()}
    for name, (seconds, memory) in medians.items():
        print(f"{name}: {seconds:.1f} s, {seconds / -(-len(ids) // 16):.2f} s a step, {memory:.0f} MiB")
    print(f"faultlens takes {medians['faultlens'][0] / medians['PyTorch'][0]:.2f} of PyTorch's time, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
