#!/usr/bin/env python3
"""Labels the gold issues with what one would try instead of faultlens, each a file of predictions.

    pip install torch transformers scikit-learn setfit
    scripts/fetch-base-model
    scripts/baselines.py ISSUES.json... --output FOLDER [--only NAME...]

Each baseline learns from the training annotations whose texts are in ISSUES, chooses nothing on gold, and
writes FOLDER/NAME.jsonl: repo, number and a label for each head, `none` where a head does not apply.

    keywords    the study's keyword rules; the first category of which a word occurs (category only)
    tfidf       TF-IDF of words, word pairs and character 3- to 5-grams, and a class-balanced logistic
                regression a head
    frozen      the base model's sentence embeddings as they are, and a logistic regression a head
    setfit      the base model tuned by SetFit's contrastive pairs (Tunstall et al. 2022), a model a head
    pytorch     the base model fine-tuned in PyTorch with the settings that faultlens trains with by
                default: same text, tokens, batches' size, schedule, dropout and smoothing
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADS = ["kind", "category", "root_cause"]
BASE = ROOT / "models/base"

KEYWORDS = {
    "memory": "oom|memory leak|vram|gpu memory|out of memory|memory error",
    "performance": "slow|latency|throughput|performance|speed|qps|inference time",
    "concurrency": "concurrent|parallel|multi|thread|async|deadlock|race condition",
    "gpu": "cuda|gpu|nccl|cudnn|tensor|device",
    "api": "api|endpoint|request|response|timeout|http|rest",
    "other": "crash|seg fault|core dump|hang|freeze|unresponsive",
    "model": "model|weight|loading|quantization|precision|fp16|int8",
    "distributed": "scale|distributed|cluster|multi-node|load balance",
}


def read_jsonl(path):
    return {(row["repo"], row["number"]): row for row in map(json.loads, open(path, encoding="utf-8"))}


def read_issues(paths):
    """By identity, title and body."""
    texts = {}
    for path in paths:
        for issue in json.load(open(path, encoding="utf-8")):
            repo = "/".join(issue["html_url"].split("/")[3:5])
            texts[repo, issue["number"]] = (issue["title"], issue["body"] or "")
    return texts


class Task:
    """Texts and labels to learn from, and texts to label."""

    def __init__(self, arguments):
        texts = read_issues(arguments.issues)
        labels, gold = read_jsonl(arguments.labels), read_jsonl(arguments.gold)
        self.paths = arguments.issues
        self.train = [id for id in labels if id in texts]
        self.test = [id for id in gold if id in texts]
        if len(self.test) < len(gold) or len(self.train) < len(labels):
            print(f"texts of {len(self.train)} of {len(labels)} annotations and {len(self.test)} of {len(gold)} gold issues", file=sys.stderr)
        self.labels = {head: [labels[id][head] for id in self.train] for head in HEADS}
        self.texts = texts

    def whole(self, ids):
        return ["\n".join(self.texts[id]) for id in ids]

    def condensed(self, ids):
        """What faultlens reads of the issues."""
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            for (repo, number) in ids:
                title, body = self.texts[repo, number]
                file.write(json.dumps({"repo": repo, "number": number, "title": title, "body": body}) + "\n")
            file.flush()
            output = subprocess.run(
                [ROOT / "target/release/faultlens", "text", file.name, "--json"], check=True, capture_output=True, text=True
            ).stdout
        rows = map(json.loads, output.splitlines())
        texts = {(row["repo"], row["number"]): row["text"] for row in rows}
        return [texts[id] for id in ids]


def keywords(task):
    def category(text):
        text = text.lower()
        return next((name for name, words in KEYWORDS.items() if re.search(words, text)), "other")

    return {"category": [category(text) for text in task.whole(task.test)]}


def tfidf(task):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_union

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, min_df=3, max_features=200_000)
    features = make_union(words, characters)
    train, test = features.fit_transform(task.whole(task.train)), features.transform(task.whole(task.test))

    def predict(head):
        # Strength and balance were the best of four tried on a validation split of the annotations.
        regression = LogisticRegression(C=30, class_weight="balanced", solver="liblinear", dual=True, max_iter=200)
        return OneVsRestClassifier(regression).fit(train, task.labels[head]).predict(test)

    return {head: predict(head) for head in HEADS}


def embed(texts, model=None):
    """Mean-pooled hidden states of the base model, of length 1, 256 tokens a text."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(BASE)
    model = (model or AutoModel.from_pretrained(BASE)).eval()
    vectors = torch.zeros(len(texts), model.config.hidden_size)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for start in range(0, len(order), 32):
        part = order[start : start + 32]
        batch = tokenizer([texts[i] for i in part], padding=True, truncation=True, max_length=256, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        vectors[part] = (hidden * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(vectors, dim=1).numpy()


def frozen(task):
    from sklearn.linear_model import LogisticRegression

    train, test = embed(task.condensed(task.train)), embed(task.condensed(task.test))
    # The strength is scikit-learn's usual one times 10, the best of three on a validation split.
    return {head: LogisticRegression(C=10, max_iter=2000).fit(train, task.labels[head]).predict(test) for head in HEADS}


def setfit(task):
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    predictions = {}
    texts, test = task.condensed(task.train), task.condensed(task.test)
    for head in HEADS:
        names = sorted(set(task.labels[head]))
        model = SetFitModel.from_pretrained(str(BASE))
        model.model_body.max_seq_length = 256
        data = Dataset.from_dict({"text": texts, "label": [names.index(label) for label in task.labels[head]]})
        settings = TrainingArguments(batch_size=16, num_epochs=1, max_steps=400, seed=0, report_to="none")
        trainer = Trainer(model=model, args=settings, train_dataset=data)
        trainer.train()
        predictions[head] = [names[int(i)] for i in model.predict(test)]
    return predictions


def fine_tune(texts, labels, epochs, after_epoch=lambda epoch: None):
    """Trains the base model on texts and, by head, labels; gives a function from texts to labels."""
    import torch
    from transformers import AutoModel, AutoTokenizer, get_linear_schedule_with_warmup

    torch.manual_seed(0)
    tokenizer, encoder = AutoTokenizer.from_pretrained(BASE), AutoModel.from_pretrained(BASE)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    names = {head: sorted(set(column)) for head, column in labels.items()}
    heads = torch.nn.ModuleDict({head: torch.nn.Linear(encoder.config.hidden_size, len(names[head])) for head in names})
    tokens = [tokenizer(text, truncation=True, max_length=256)["input_ids"] for text in texts]
    targets = {head: torch.tensor([names[head].index(label) for label in column]) for head, column in labels.items()}
    decayed = lambda name: name.endswith("weight") and "LayerNorm" not in name
    groups = [
        {"params": [p for n, p in part.named_parameters() if decayed(n) == decay], "lr": rate, "weight_decay": 0.01 * decay}
        for part, rate in [(encoder, 8e-5), (heads, 1.6e-3)]
        for decay in [True, False]
    ]
    size = 16
    steps = epochs * -(-len(tokens) // size)
    optimizer = torch.optim.AdamW(groups)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)

    def logits(sequences):
        batch = tokenizer.pad({"input_ids": sequences}, return_tensors="pt")
        hidden = encoder(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        pooled = torch.nn.functional.dropout((hidden * mask).sum(1) / mask.sum(1), 0.1, encoder.training)
        return {head: layer(pooled) for head, layer in heads.items()}

    encoder.train()
    for epoch in range(epochs):
        order = torch.randperm(len(tokens)).tolist()
        pools = [sorted(order[i : i + 50 * size], key=lambda i: len(tokens[i])) for i in range(0, len(order), 50 * size)]
        batches = [pool[i : i + size] for pool in pools for i in range(0, len(pool), size)]
        for step in torch.randperm(len(batches)).tolist():
            out = logits([tokens[i] for i in batches[step]])
            loss = sum(
                torch.nn.functional.cross_entropy(out[head], targets[head][batches[step]], label_smoothing=0.05) for head in names
            )
            loss.backward()
            torch.nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        after_epoch(epoch)

    def predict(texts):
        encoder.eval()
        predictions = {head: [] for head in names}
        with torch.no_grad():
            for text in texts:
                for head, row in logits([tokenizer(text, truncation=True, max_length=256)["input_ids"]]).items():
                    predictions[head].append(names[head][row.argmax().item()])
        return predictions

    return predict


def pytorch(task):
    note = lambda epoch: print(f"pytorch: epoch {epoch + 1}", file=sys.stderr)
    return fine_tune(task.condensed(task.train), task.labels, 6, note)(task.condensed(task.test))


BASELINES = {f.__name__: f for f in [keywords, tfidf, frozen, setfit, pytorch]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("issues", nargs="+")
    parser.add_argument("--output", type=Path, required=True, help="folder for the predictions")
    parser.add_argument("--only", nargs="+", choices=BASELINES, default=list(BASELINES))
    parser.add_argument("--labels", default=ROOT / "training-data/labels.jsonl")
    parser.add_argument("--gold", default=ROOT / "eval/gold.jsonl")
    arguments = parser.parse_args()

    task = Task(arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        predictions = BASELINES[name](task)
        with open(arguments.output / f"{name}.jsonl", "w", encoding="utf-8") as file:
            for i, (repo, number) in enumerate(task.test):
                labels = {head: str(column[i]) for head, column in predictions.items()}
                file.write(json.dumps({"repo": repo, "number": number, **labels, "model": name}) + "\n")
        print(f"{name}: {len(task.test)} gold issues labelled", file=sys.stderr)


if __name__ == "__main__":
    main()
