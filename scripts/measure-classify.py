#!/usr/bin/env python3
"""Measures wall time and peak memory of `faultlens classify`, start to end: median of some runs.

    cargo build --release
    scripts/measure-classify.py ISSUES... [--runs 3] [--counts 10000 100000] [--layers N]

With --counts it labels as many issues: the given ones again and again, under new numbers. With --layers the
model is cut to its first layers, as few as 0: the labels are worth nothing, but what is read, queued and
written takes the memory that it takes, in less time.
"""

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(issues, output, model):
    """Seconds, peak memory in MiB and labelled issues."""
    begun = time.monotonic()
    process = subprocess.Popen([ROOT / "target/release/faultlens", "classify", *issues, "--model", model, "-o", output, "--quiet"])
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"classify failed with status {status}"
    seconds = time.monotonic() - begun
    with open(output, "rb") as file:
        return seconds, usage.ru_maxrss / 1024, sum(1 for _ in file)


def measure(issues, runs, folder, model):
    figures = []
    for i in range(runs):
        output = Path(folder) / f"{i}.jsonl"
        figures.append(run(issues, output, model))
        output.unlink()
        seconds, memory, lines = figures[-1]
        print(f"run {i + 1}: {lines} issues, {seconds:.2f} s, {memory:.0f} MiB at peak", flush=True)
    seconds, memory, lines = (statistics.median(column) for column in zip(*figures))
    print(
        f"median: {seconds:.2f} s, {lines / seconds:.0f} issues/s, {memory:.0f} MiB at peak, {os.cpu_count()} cores",
        flush=True,
    )


def repeated(paths, count, output):
    """Writes a file of `count` issues."""
    records = [record for path in paths for record in json.loads(Path(path).read_text(encoding="utf-8"))]
    with open(output, "w", encoding="utf-8") as file:
        for number, record in zip(range(1, count + 1), itertools.cycle(records)):
            file.write(json.dumps({**record, "repo": "owner/name", "number": number, "html_url": None}) + "\n")


def cut(layers, folder):
    """The shipped model's folder, or a copy with fewer layers."""
    model = ROOT / "models/default"
    if layers is None:
        return model
    model = Path(shutil.copytree(model, Path(folder) / "model"))
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}), encoding="utf-8")
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("issues", nargs="+")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--counts", type=int, nargs="+", default=[])
    parser.add_argument("--layers", type=int)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = cut(arguments.layers, folder)
        if not arguments.counts:
            measure(arguments.issues, arguments.runs, folder, model)
        for count in arguments.counts:
            path = Path(folder) / "issues.jsonl"
            repeated(arguments.issues, count, path)
            measure([path], arguments.runs, folder, model)


if __name__ == "__main__":
    main()
