"""Small tasks of the demo's grammar and of parquet files, for tests of tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from obert_sweeps.task.glue import Glue
from obert_sweeps.task.mlm import Mlm
from obert_sweeps.task.squad import Squad

GENERATOR = {"train_rows": 60, "validation_rows": 30, "seed": 0, "version": 1}


def glue(**keys: Any) -> Glue:
    values: dict[str, Any] = {
        "name": "sst2",
        "hub": "owner/name",
        "hub_config": "sst2",
        "revision": None,
        "hub_splits": {},
        "data": "sst2",
        "source": "generated",
        "folder": None,
        "text_columns": ["sentence"],
        "num_labels": 2,
        "metrics": ["accuracy"],
        "best_metric": "accuracy",
        "max_length": 64,
        "evaluation_splits": ["validation"],
        "official_rows": {},
        "generator": GENERATOR,
    }
    return Glue(**{**values, **keys})


def squad(**keys: Any) -> Squad:
    values: dict[str, Any] = {
        "name": "squad",
        "hub": "owner/name",
        "hub_config": None,
        "revision": None,
        "data": "squad",
        "source": "generated",
        "folder": None,
        "metrics": ["f1", "em"],
        "best_metric": "f1",
        "max_length": 64,
        "doc_stride": 16,
        "max_query_length": 20,
        "max_answer_length": 30,
        "n_best": 20,
        "official_rows": {},
        "generator": GENERATOR,
    }
    return Squad(**{**values, **keys})


def mlm(**keys: Any) -> Mlm:
    values: dict[str, Any] = {
        "name": "mlm",
        "hub": None,
        "hub_config": None,
        "revision": None,
        "more_hub": [],
        "data": "mlm",
        "source": "generated",
        "folder": None,
        "corpus": [],
        "held_out_rows": 10,
        "mask_probability": 0.15,
        "max_length": 64,
        "pack": False,
        "best_metric": "accuracy",
        "official_rows": {},
        "generator": {**GENERATOR, "train_rows": 400},
    }
    return Mlm(**{**values, **keys})


def write(folder: Path, split: str, **columns: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{split}.parquet"
    pq.write_table(pa.table(columns), file)
    return file


def demo_tokenizer() -> PreTrainedTokenizerBase:
    return mlm(generator={**GENERATOR, "train_rows": 1500}).make_tokenizer()
