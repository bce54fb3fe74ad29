"""Mini-batch gradients of a real model, for `benchmarks/fisher.py --gradients`.

    python benchmarks/fisher_gradients.py --model DIR --data DIR --out g.npy [--steps 100]

The encoder in DIR gets a new classification head for SST-2 (DIR/train.parquet with the columns
`sentence` and `label`), is fine-tuned by AdamW for `--steps` mini-batches, and then, in eval mode,
gives one gradient of the mean loss for each mini-batch, of the layers whose name matches
`--layers`, one behind the other. Written as float32 (m, d).
"""

from __future__ import annotations

import argparse
import re

import numpy as np
import pyarrow.parquet as parquet
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", required=True, metavar="DIR")
    add("--data", required=True, metavar="DIR")
    add("--out", required=True, metavar="FILE")
    add("--layers", default=r"layer\.4\..*(query|intermediate\.dense)", help="expression on names")
    add("--grads", type=int, default=256, help="m (256)")
    add("--batch", type=int, default=16, help="rows in a mini-batch (16)")
    add("--steps", type=int, default=100, help="of fine-tuning before (100)")
    add("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        args.model, num_labels=2, dtype=torch.float32
    )
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    table = parquet.read_table(f"{args.data}/train.parquet")
    sentences, labels = table["sentence"].to_pylist(), torch.tensor(table["label"].to_pylist())

    def loss() -> torch.Tensor:
        rows = torch.randint(len(labels), (args.batch,))
        texts = [sentences[row] for row in rows.tolist()]
        batch = tokenizer(texts, padding=True, truncation=True, max_length=48, return_tensors="pt")
        return model(**batch, labels=labels[rows]).loss

    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
    model.train()
    for _ in range(args.steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    model.eval()
    weights = [
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and re.search(args.layers, name)
    ]
    shape = (args.grads, sum(weight.numel() for weight in weights))
    out = np.lib.format.open_memmap(args.out, mode="w+", dtype=np.float32, shape=shape)
    for row in out:
        found = torch.autograd.grad(loss(), weights)
        row[:] = torch.cat([grad.flatten() for grad in found]).numpy()
    out.flush()
    print(f"{shape[0]} gradients of {len(weights)} layers, d = {shape[1]:,}: {args.out}")


if __name__ == "__main__":
    main()
