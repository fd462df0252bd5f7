#!/usr/bin/env python3
"""Makes tests/fixtures/tiny-bert and the hidden states that PyTorch's transformers computes.

    pip install torch transformers
    scripts/make-encoder-fixtures.py [--base FOLDER]

tiny-bert is a random BERT of two layers with a small WordPiece vocabulary, in the files of a base
model. tiny-bert/hidden.json holds its last hidden states for a few sequences. With --base, the folder
of all-MiniLM-L6-v2, the same is written of that model to tests/fixtures/minilm-hidden.json: the first
dimensions of every token, enough to tell any difference.
"""

import argparse
import json
import string
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModel, BertConfig, BertModel

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
WORDS = """the a is it in on of to and not error out memory cuda crash build failed server support
please add how question model load slow hang gpu request response install""".split()


def tokenizer():
    letters = list(string.ascii_lowercase + string.digits + string.punctuation)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary += letters + ["##" + letter for letter in letters] + [w for w in WORDS if len(w) > 1]
    vocabulary = {token: i for i, token in enumerate(vocabulary)}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made, len(vocabulary)


def hidden_states(model, sequences, dimensions):
    """Last hidden states of each sequence alone, so that no padding takes part."""
    with torch.no_grad():
        return [
            [[round(x, 6) for x in token[:dimensions]] for token in model(torch.tensor([ids])).last_hidden_state[0].tolist()]
            for ids in sequences
        ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path)
    arguments = parser.parse_args()

    torch.manual_seed(7)
    folder = FIXTURES / "tiny-bert"
    folder.mkdir(parents=True, exist_ok=True)
    made, size = tokenizer()
    made.save(str(folder / "tokenizer.json"))
    config = BertConfig(
        vocab_size=size, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=96, max_position_embeddings=64, initializer_range=0.2,
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:  # biases and norms start at 0 and 1: give them something to be wrong about
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder, safe_serialization=True)
    sequences = [[2, 70, 3], [2] + list(range(10, 40)) + [3], [2, 9, 5, 99, 80, 3], [2] + [50] * 62 + [3]]
    states = hidden_states(model, sequences, 48)
    (folder / "hidden.json").write_text(json.dumps({"input_ids": sequences, "hidden": states}) + "\n")

    if arguments.base:
        model = AutoModel.from_pretrained(arguments.base).eval()
        sequences = [[101, 2023, 2003, 1037, 3231, 102], [101] + list(range(2000, 2120)) + [102]]
        states = hidden_states(model, sequences, 8)
        target = FIXTURES / "minilm-hidden.json"
        target.write_text(json.dumps({"input_ids": sequences, "hidden": states}) + "\n")


if __name__ == "__main__":
    main()
