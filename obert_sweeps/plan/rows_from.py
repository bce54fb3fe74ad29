"""Where a task's rows come from, as a request says it: data_root, task.folder, or its leaf."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..schema import RequestError

# Keys of a task that one kind of source reads and others pass over.
READ_BY = {
    **dict.fromkeys("hub hub_config revision hub_splits more_hub".split(), "hub"),
    "generator": "generated",
    "folder": "folder",
}


def rows_from(task: dict[str, Any], said: Collection[str], data_root: str | None) -> dict[str, Any]:
    """A task's recipe, its source and folders settled. `said`: its keys that were overridden.

    A folder that is named is read. RequestError for a key that the task's source passes over.
    """
    name, chosen = task["name"], {key.partition(".")[0] for key in said}
    if data_root is not None:
        both = sorted(chosen & {"source", *READ_BY})
        if both:
            raise RequestError(
                f"task.{both[0]} and data_root={data_root} both say where the rows of {name} come"
                " from. Leave one out; for a folder of another name below data_root use"
                " task.data=NAME."
            )
        return place(task, Path(data_root))
    if "folder" in chosen and task["folder"] is not None:
        folder = str(Path(str(task["folder"])).expanduser().resolve())
        source = task["source"] if "source" in chosen else "folder"
        task = {**task, "source": source, "folder": folder}
    for key in sorted(chosen & READ_BY.keys()):
        if READ_BY[key] != task["source"]:
            raise RequestError(
                f"task.{key} has no effect on {name}, whose rows come from source"
                f" {task['source']}. Leave it out, or use task.source={READ_BY[key]} too."
            )
    return task


def place(task: dict[str, Any], data_root: Path) -> dict[str, Any]:
    """Point a task at `<data_root>/<task.data>`; a corpus at those folders that are there.

    A corpus of which nothing is there keeps all it was looked for in, which a plan then tells.
    """
    root = data_root.expanduser().resolve()
    task = {**task, "source": "folder"}
    if "corpus" in task:
        task["folder"] = str(root)
        parts = [{**c, "folder": str(root / c["data"])} for c in task["corpus"] or []]
        there = [c for c in parts if (Path(c["folder"]) / "train.parquet").is_file()]
        task["corpus"] = there or parts
    else:
        task["folder"] = str(root / task["data"])
    return task
