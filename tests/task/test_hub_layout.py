"""The `datasets` library itself, on a folder that is laid out as the hub's data sets are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

# The hub's GLUE: a configuration a task, named in the card, with a file pattern a split.
CARD = """---
configs:
- config_name: mnli
  data_files:
  - {split: train, path: mnli/train-*}
  - {split: validation_matched, path: mnli/validation_matched-*}
- config_name: sst2
  data_files:
  - {split: train, path: sst2/train-*}
---
"""
READ = """
import json, sys
from obert_sweeps.task.sources import HubRows
rows = HubRows(sys.argv[1], "mnli", None, {"validation": "validation_matched"})
found = {s: rows.rows(s, ["premise", "label"]) for s in ("train", "validation")}
print(json.dumps({**found, "some": rows.rows("train", ["premise"], 5)}))
"""


def glue(folder: Path) -> list[dict[str, object]]:
    """Writes the data set; the rows of MNLI's training split."""
    rows = [{"premise": f"row {i}", "label": i % 3, "idx": i} for i in range(600)]
    for file, part in (
        ("mnli/train-00000-of-00002", rows[:300]),
        ("mnli/train-00001-of-00002", rows[300:]),
        ("mnli/validation_matched-00000-of-00001", rows[:7]),
        ("sst2/train-00000-of-00001", [{"sentence": "fine", "label": 1, "idx": 0}]),
    ):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(part), folder / f"{file}.parquet")
    (folder / "README.md").write_text(CARD)
    return [{"premise": row["premise"], "label": row["label"]} for row in rows]


@pytest.mark.slow
def test_several_processes_prepare_one_data_set_at_once(tmp_path: Path, project_root: Path) -> None:
    expected = glue(tmp_path / "glue")
    environment = {
        **os.environ, "HF_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(project_root),
        "HF_DATASETS_OFFLINE": "1",
    }  # fmt: skip
    command = [sys.executable, "-c", READ, str(tmp_path / "glue")]
    readers = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for reader in readers:
        out, _ = reader.communicate(timeout=250)
        assert reader.returncode == 0
        found = json.loads(out.splitlines()[-1])
        assert found["train"] == expected and found["validation"] == expected[:7]
        assert len(found["some"]) == 5
    assert list((tmp_path / "cache").rglob("*.arrow")), "prepared in this cache, not elsewhere"
