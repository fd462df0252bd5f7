"""One library that runs the shipped model, in a process of its own: loads it, then measures as it is told.

    peer.py NAME TEXTS.jsonl BUNDLE FOLDER

A line of standard input is `encoder` or `all`; the answer is a line of JSON with seconds and, once at the
end, the peak of memory. `encoder` is from tokens to logits; `all` from the file of texts to a file of labels.
Batches are of texts sorted by length, of the size that is fastest on the first texts.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from transformers import AutoModel, AutoTokenizer, logging

logging.set_verbosity_error()
torch.set_grad_enabled(False)
THREADS = os.cpu_count()
torch.set_num_threads(THREADS)
SIZES = [4, 8, 16, 32]


class Model(torch.nn.Module):
    """Encoder, mean pooling and all heads, side by side."""

    def __init__(self, bundle):
        super().__init__()
        self.encoder = AutoModel.from_pretrained(bundle, dtype=torch.float32)
        heads = load_file(Path(bundle) / "heads.safetensors")
        names = sorted(name.removesuffix(".weight") for name in heads if name.endswith(".weight"))
        self.heads = torch.nn.Linear(self.encoder.config.hidden_size, sum(len(heads[f"{n}.bias"]) for n in names))
        self.heads.weight.copy_(torch.from_numpy(np.concatenate([heads[f"{n}.weight"] for n in names]).astype(np.float32)))
        self.heads.bias.copy_(torch.from_numpy(np.concatenate([heads[f"{n}.bias"] for n in names]).astype(np.float32)))
        self.sizes = [len(heads[f"{n}.bias"]) for n in names]
        self.eval()

    def forward(self, input_ids, attention_mask):
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
        mask = attention_mask.unsqueeze(-1).float()
        return self.heads((hidden * mask).sum(1) / mask.sum(1))


class Torch:
    def __init__(self, bundle, folder, dtype):
        self.model, self.dtype = Model(bundle), dtype

    def logits(self, ids, mask):
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            return self.model(torch.from_numpy(ids), torch.from_numpy(mask)).float().numpy()


class SentenceTransformers:
    """Its `encode`, then the heads."""

    def __init__(self, bundle, folder):
        from sentence_transformers import SentenceTransformer, models

        transformer = models.Transformer(str(bundle), max_seq_length=256)
        self.model = SentenceTransformer(modules=[transformer, models.Pooling(transformer.get_word_embedding_dimension())], device="cpu")
        self.heads = Model(bundle).heads

    def texts(self, texts, size):
        pooled = self.model.encode(texts, batch_size=size, convert_to_tensor=True, show_progress_bar=False)
        return self.heads(pooled.float()).numpy()


class Onnx:
    def __init__(self, bundle, folder, int8):
        import onnxruntime

        path = Path(folder) / "f32.onnx"
        if not path.exists():
            example = (torch.ones(2, 16, dtype=torch.int64), torch.ones(2, 16, dtype=torch.int64))
            axes = {0: "batch", 1: "length"}
            torch.onnx.export(
                Model(bundle), example, str(path), input_names=["input_ids", "attention_mask"], output_names=["logits"],
                dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": {0: "batch"}}, dynamo=False,
            )
        if int8:
            from onnxruntime.quantization import QuantType, quantize_dynamic

            quantised = Path(folder) / "int8.onnx"
            if not quantised.exists():
                quantize_dynamic(str(path), str(quantised), weight_type=QuantType.QInt8, per_channel=True)
            path = quantised
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def logits(self, ids, mask):
        return self.session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


PEERS = {
    "PyTorch f32": lambda *a: Torch(*a, torch.float32),
    "PyTorch bf16": lambda *a: Torch(*a, torch.bfloat16),
    "sentence-transformers": lambda *a: SentenceTransformers(*a),
    "ONNX Runtime f32": lambda *a: Onnx(*a, False),
    "ONNX Runtime int8": lambda *a: Onnx(*a, True),
}


class Run:
    def __init__(self, name, texts, bundle, folder):
        self.peer, self.path, self.folder = PEERS[name](bundle, folder), texts, Path(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(bundle)
        self.sizes = Model(bundle).sizes
        self.name = name
        self.rows = self.read()
        self.tokens = self.tokenize([row["text"] for row in self.rows])
        some = min(len(self.rows), 128)
        self.size = min(SIZES, key=lambda size: self.timed(lambda: self.encode(range(some), size)))

    def read(self):
        return [json.loads(line) for line in open(self.path, encoding="utf-8")]

    def tokenize(self, texts):
        return self.tokenizer(texts, truncation=True, max_length=256)["input_ids"]

    def timed(self, work):
        begun = time.monotonic()
        work()
        return time.monotonic() - begun

    def encode(self, indices, size):
        """Logits of the texts at these indices."""
        if isinstance(self.peer, SentenceTransformers):  # sorts by itself
            return self.peer.texts([self.rows[i]["text"] for i in indices], size)
        order = sorted(indices, key=lambda i: len(self.tokens[i]))
        logits = np.zeros((len(order), sum(self.sizes)), dtype=np.float32)
        for start in range(0, len(order), size):
            part = order[start : start + size]
            longest = max(len(self.tokens[i]) for i in part)
            ids, mask = np.zeros((len(part), longest), np.int64), np.zeros((len(part), longest), np.int64)
            for row, i in enumerate(part):
                ids[row, : len(self.tokens[i])] = self.tokens[i]
                mask[row, : len(self.tokens[i])] = 1
            logits[part] = self.peer.logits(ids, mask)
        return logits

    def all(self):
        self.rows = self.read()
        if not isinstance(self.peer, SentenceTransformers):
            self.tokens = self.tokenize([row["text"] for row in self.rows])
        parts = np.split(self.encode(range(len(self.rows)), self.size), np.cumsum(self.sizes)[:-1], axis=1)
        labels = [part.argmax(1).tolist() for part in parts]
        output = self.folder / (self.name.replace(" ", "-") + ".jsonl")
        with open(output, "w", encoding="utf-8") as file:
            for row, *of_heads in zip(self.rows, *labels):
                file.write(json.dumps({"repo": row["repo"], "number": row["number"], "labels": of_heads}) + "\n")


def main():
    run = Run(*sys.argv[1:])
    print(json.dumps({"size": run.size}), flush=True)
    for line in sys.stdin:
        work = {"encoder": lambda: run.encode(range(len(run.rows)), run.size), "all": run.all}[line.strip()]
        print(json.dumps({"seconds": run.timed(work)}), flush=True)
    print(json.dumps({"mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}), flush=True)


if __name__ == "__main__":
    main()
