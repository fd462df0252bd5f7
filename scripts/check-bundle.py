"""Compares hidden states of a bundle: transformers.AutoModel's and faultlens'. See check-bundle."""

import json
import subprocess
import sys
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer

TEXTS = [
    "CUDA out of memory when loading the model",
    "[Bug]: server hangs after a few hours\nNCCL timeout on rank 3, see the log below",
    "How do I pass a chat template?",
    "服务器崩溃",
]


def main():
    folder = Path(sys.argv[1])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False).eval()
    command = ["target/debug/examples/hidden_states", str(folder)]
    process = subprocess.run(command, input=json.dumps(TEXTS), capture_output=True, text=True, check=True)
    worst = 0.0
    for text, ours in zip(TEXTS, json.loads(process.stdout), strict=True):
        with torch.no_grad():
            theirs = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        ours = torch.tensor(ours)
        if ours.shape != theirs.shape:
            sys.exit(f"{folder}: {text!r} has {theirs.shape[0]} tokens in transformers, {ours.shape[0]} in faultlens")
        worst = max(worst, (ours - theirs).abs().max().item())
    print(f"{folder}: hidden states differ by at most {worst:.1e} from those of transformers")
    if not worst < 1e-4:
        sys.exit("they are to differ by less than 1e-4")


if __name__ == "__main__":
    main()
