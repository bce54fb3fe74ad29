"""In what the rows and the model of a stage are visibly other than the document's.

Rows in a folder and a checkpoint's folder are taken to be copies of the published ones, which a
request may name without its cells being others. Their sizes tell where they are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def other_rows(task: Mapping[str, Any], rows: Mapping[str, int]) -> list[str]:
    """`rows` by split, as they are, against the task's published ones; in words, empty if alike.

    A corpus is counted in lines and published in longer rows, so only fewer lines tell.
    """
    if task["source"] != "folder":
        return []
    official = task.get("official_rows") or {}
    if "corpus" in task:
        lines, least = rows["train"], official.get("train", 0)
        told = f"{task['name']} has {lines:,} lines of text, and the document a corpus of more rows"
        return [f"{told} than {least:,}"] if lines < least else []
    return [
        f"{task['name']} has {count:,} {split} rows, not {official[split]:,}"
        for split, count in rows.items()
        if count != official.get(split, count)
    ]


def other_model(model: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """`config`: of a checkpoint's folder, against the leaf's; in words, empty if alike."""
    published = model["config"]
    if not model.get("path"):
        return []
    other = [k for k in ("num_hidden_layers", "hidden_size", "intermediate_size") if k in published]
    told = [f"{k}={config[k]}, not {published[k]}" for k in other if config.get(k) != published[k]]
    return [f"{model['name']} starts from a model with {'; '.join(told)}"] if told else []
