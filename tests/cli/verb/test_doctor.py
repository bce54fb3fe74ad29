"""`doctor`: what does not work is a row with its mend, whatever it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from obert_sweeps.cli.door import main
from obert_sweeps.cli.verb import doctor
from obert_sweeps.cli.verb.doctor import store
from obert_sweeps.request.read import read
from obert_sweeps.store.place import FolderPlace


def test_a_store_that_cannot_be_one_is_a_row(tmp_path: Path) -> None:
    row = store("gs3://bucket/runs")
    assert (row["ok"], row["found"]) == (False, "gs3://bucket/runs")
    assert "Use a folder, or s3://BUCKET/" in row["mend"]
    (tmp_path / "file").write_text("")
    below_a_file = store(f"{tmp_path}/file/runs")
    assert not below_a_file["ok"] and "cannot be written" in below_a_file["mend"]
    assert store(str(tmp_path / "runs"))["ok"] and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("free", [0, 10**12])
def test_results_that_do_not_fit_are_a_row_and_a_notice(
    free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FolderPlace, "room", lambda self: free)
    request = ["cells=t5/sst2/bert_base/obert/90", f"store={tmp_path}"]
    rows = {row["what"]: row for row in doctor.inputs(read(request))}
    assert rows["data and models"]["ok"] and ("room" in rows) == (free == 0)
    if free == 0:
        assert not rows["room"]["ok"] and rows["room"]["found"].endswith("to come, 0.0 kB free")
        assert "obert-sweeps gc" in rows["room"]["mend"]
    assert main(["plan", *request]) == 0
    assert ("may not hold the results" in capsys.readouterr().err) == (free == 0)
