"""`doctor`: what does not work is a row with its mend, whatever it is."""

from __future__ import annotations

from pathlib import Path

from obert_sweeps.cli.verb.doctor import store


def test_a_store_that_cannot_be_one_is_a_row(tmp_path: Path) -> None:
    row = store("gs3://bucket/runs")
    assert (row["ok"], row["found"]) == (False, "gs3://bucket/runs")
    assert "Use a folder, or s3://BUCKET/" in row["mend"]
    (tmp_path / "file").write_text("")
    below_a_file = store(f"{tmp_path}/file/runs")
    assert not below_a_file["ok"] and "cannot be written" in below_a_file["mend"]
    assert store(str(tmp_path / "runs"))["ok"] and not (tmp_path / "runs").exists()
