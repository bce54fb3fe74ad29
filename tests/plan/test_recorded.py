"""A look at results whose rows or checkpoint are gone: they are those that the store recorded."""

from __future__ import annotations

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from obert_sweeps.cli.door import main
from obert_sweeps.plan.dag import Plan, make_plan
from obert_sweeps.request.read import read
from obert_sweeps.store import Store

DENSE, PRUNED = "t5/mrpc/bert_base/dense", "t5/mrpc/bert_base/magnitude/90"


@pytest.fixture
def request_of(tmp_path):
    """Words of a request for two cells, on rows of one's own."""

    def write(folder: str, sentence: str = "a film", rows: int = 4000) -> list[str]:
        where = tmp_path / folder / "mrpc"
        where.mkdir(parents=True, exist_ok=True)
        columns = {"sentence1": [sentence], "sentence2": ["b"], "label": [1]}
        table = pa.table({name: column * rows for name, column in columns.items()})
        for split in ("train", "validation"):
            pq.write_table(table, where / f"{split}.parquet")
        return [f"cells=['{DENSE}','{PRUNED}']", "preset=paper", "seeds=1",
                f"data_root={tmp_path / folder}", f"store={tmp_path / 'runs'}"]  # fmt: skip

    return write


def finish(planned: Plan, store: Store, *cells: str) -> None:
    for name in cells:
        for stage_id in planned.cells[name].stages:
            folder = store.folder(stage_id)
            folder.write_json("stage.json", planned.stages[stage_id].as_dict())
            result = {"id": stage_id, "status": "done", "metrics": {"accuracy": 80.0, "f1": 70.0}}
            folder.write_json("result.json", result)


def facts(planned: Plan) -> dict[str, object]:
    return {
        name: (cell.finals, cell.stages, cell.stand_in, cell.unlike, cell.blocked)
        for name, cell in planned.cells.items()
    }


def test_a_report_without_the_data_says_what_it_said_with_them(
    request_of, tmp_path, capsys
) -> None:
    said, store = request_of("data"), Store(str(tmp_path / "runs"))
    planned = make_plan(read(said))
    finish(planned, store, DENSE, PRUNED)
    assert main(["report", *said]) == 0
    before = capsys.readouterr().out
    shutil.rmtree(tmp_path / "data")
    bare = make_plan(read(said))
    assert all(cell.blocked for cell in bare.selected())  # to run them is another matter
    again = make_plan(read(said), store)
    assert facts(again) == facts(planned) and again.gone and not planned.gone
    costs = [{i: s.cost for i, s in p.stages.items()} for p in (planned, again)]
    assert costs[0] == costs[1]
    assert main(["report", *said]) == 0
    after = capsys.readouterr().out
    (told,) = [line for line in after.splitlines() if line.startswith("warning")]
    assert "taken as this store recorded it, since it is not here" in told
    words = [" ".join(text.split("Claims")[0].split()) for text in (before, after)]
    assert words[0] == words[1] and "stand-in" in words[0]
    assert main(["status", *said]) == 0
    told = capsys.readouterr()
    assert "2/2 cells complete" in told.out and "not here" in told.err


def test_what_the_store_does_not_have_is_blocked_as_ever(request_of, tmp_path) -> None:
    said, store = request_of("data"), Store(str(tmp_path / "runs"))
    finish(make_plan(read(said)), store, DENSE)
    shutil.rmtree(tmp_path / "data")
    cells = make_plan(read(said), store).cells
    assert cells[DENSE].blocked is None
    assert "mrpc was not found" in str(cells[PRUNED].blocked)


def test_rows_of_which_the_store_knows_two_are_told_by_their_folder(request_of, tmp_path) -> None:
    one, other = request_of("one"), request_of("other", sentence="another film")
    store = Store(str(tmp_path / "runs"))
    plans = [make_plan(read(said)) for said in (one, other)]
    for planned in plans:
        finish(planned, store, DENSE, PRUNED)
    elsewhere = [word.replace("/one", "/third") for word in one]
    shutil.rmtree(tmp_path / "one")
    assert facts(make_plan(read(one), store)) == facts(plans[0]) != facts(plans[1])
    assert make_plan(read(elsewhere), store).cells[DENSE].blocked  # which of the two is not known
    changed = request_of("one", sentence="a third film")
    finish(make_plan(read(changed)), store, DENSE, PRUNED)
    shutil.rmtree(tmp_path / "one")
    assert make_plan(read(one), store).cells[DENSE].blocked


def test_rows_that_are_there_and_other_are_not_taken_for_those_on_record(
    request_of, tmp_path
) -> None:
    said, store = request_of("data"), Store(str(tmp_path / "runs"))
    finish(make_plan(read(said)), store, DENSE)
    request_of("data", sentence="another film")
    changed = make_plan(read(said), store)
    assert changed.gone == [] and not set(changed.stages) & set(store.ids())


def test_a_checkpoint_that_is_gone_is_the_one_on_record(request_of, tmp_path, shared_dir) -> None:
    model = tmp_path / "model"
    shutil.copytree(shared_dir / "models" / "minilm-l6", model)
    said = [*request_of("data"), "model=bert_base", f"model.path={model}"]
    store, planned = Store(str(tmp_path / "runs")), make_plan(read(said))
    finish(planned, store, DENSE, PRUNED)
    shutil.rmtree(model)
    again = make_plan(read(said), store)
    assert facts(again) == facts(planned)
    assert again.gone == [f"there is no model folder {model}"]
    assert again.cells[DENSE].stand_in  # a six-layer model, though its config is gone
