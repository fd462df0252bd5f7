#!/usr/bin/env python3
"""Measures wall time and peak memory of `faultlens classify`, start to end: median of some runs.

    cargo build --release
    scripts/measure-classify.py ISSUES... [--runs 3]
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(issues, output):
    begun = time.monotonic()
    process = subprocess.Popen([ROOT / "target/release/faultlens", "classify", *issues, "-o", output, "--quiet"])
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"classify failed with status {status}"
    return time.monotonic() - begun, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("issues", nargs="+")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = []
        for i in range(arguments.runs):
            output = Path(folder) / f"{i}.jsonl"
            figures.append(run(arguments.issues, output))
            lines = len(output.read_text(encoding="utf-8").splitlines())
            print(f"run {i + 1}: {lines} issues, {figures[-1][0]:.1f} s, {figures[-1][1]:.0f} MiB at peak")
    seconds, memory = (statistics.median(column) for column in zip(*figures))
    print(f"median: {seconds:.1f} s, {lines / seconds:.0f} issues/s, {memory:.0f} MiB at peak, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
