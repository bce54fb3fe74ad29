"""The catalogue against the printed document: hard-coded values, and an independent parse."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from obert_sweeps.catalogue.cell import METHODS, METRICS, MODELS, TASKS
from obert_sweeps.catalogue.layouts import layouts
from obert_sweeps.catalogue.seeds import published_deviation
from obert_sweeps.catalogue.tables import cell_named, document_cells


def test_the_document_has_69_cells():
    assert len(document_cells()) == len({cell.id for cell in document_cells()}) == 69
    tables = [cell.table for cell in document_cells()]
    assert Counter(tables) == {1: 4, 2: 5, 3: 3, 4: 8, 5: 49}
    assert tables == sorted(tables)


def test_six_cells_have_no_published_value():
    without = {c.id for c in document_cells() if all(v is None for v in c.published.values())}
    diverged = {c.id for c in document_cells() if not c.converges}
    assert diverged == {
        *(f"t5/cola/bert_base/{m}/90" for m in ("l0", "magnitude", "movement", "soft_movement")),
        "t5/stsb/bert_base/movement/90",
    }
    assert without == diverged | {"t2/squad/bert_large/prune_ofa/95"}
    assert all("not converge" in cell_named(name).note for name in diverged)
    assert not any(None in c.published.values() for c in document_cells() if c.id not in without)


SPOTS = {
    "t1/squad/bert_base/dense": {"f1": 88.54, "em": 81.41},
    "t1/squad/bert_base/obert/2of4": {"f1": 83.17, "em": 74.18, "gpu_speedup": 1.85},
    "t1/squad/bert_base/obert/2of4-1epoch": {"f1": 88.58, "em": 81.16},
    "t2/squad/bert_large/prune_ofa/90": {"f1": 90.20, "em": 83.35},
    "t2/squad/bert_large/prune_ofa/95": {"f1": None, "em": None},
    "t2/squad/bert_large/obert/95": {"f1": 90.29, "em": 83.58},
    "t3/squad/mobilebert/obert/50": {
        "f1": 90.32,
        "file_mb": 9.56,
        "compression": 136,
        "throughput": 928.58,
        "speedup": 60,
    },
    "t4/qnli/bert_base/lottery/90": {"accuracy": 80.00},
    "t4/sst2/bert_base/obert/90": {"accuracy": 92.20},
    "t5/qqp/bert_base/magnitude/90": {"accuracy": 78.8, "f1": 77.0},
    "t5/mrpc/bert_base/movement/90": {"accuracy": 68.4, "f1": 81.2},
    "t5/cola/bert_base/obert/90": {"mcc": 48.47},
    "t5/stsb/bert_base/movement/90": {"pearson": None, "spearman": None},
    "t5/mnli/bert_base/platon/90": {"accuracy": 82.0, "accuracy_mm": 82.2},
}


@pytest.mark.parametrize("cell_id", SPOTS)
def test_spot_values(cell_id):
    assert dict(cell_named(cell_id).published) == SPOTS[cell_id]


def test_printed_recoveries_of_table_3_follow_from_its_values():
    dense = cell_named("t3/squad/bert_large/dense").published["f1"]
    for name, printed in (("bert_large/obert/95", 99.27), ("mobilebert/obert/50", 99.39)):
        assert 100 * cell_named(f"t3/squad/{name}").published["f1"] / dense == pytest.approx(
            printed, abs=0.006
        )


def test_each_cell_is_consistent():
    for cell in document_cells():
        dense = cell.method == "dense"
        table, task, model, method, *variant = cell.id.split("/")
        assert (int(table[1]), task, model, method) == (
            cell.table,
            cell.task,
            cell.model,
            cell.method,
        )
        assert variant == ([] if dense else [cell.variant])
        assert cell.task in TASKS and cell.model in MODELS
        assert set(cell.published) <= set(METRICS)
        assert dense == (cell.sparsity == 0.0) == (cell.pattern == "dense")
        assert dense == (cell.baseline is None)
        if not dense:
            baseline = cell_named(cell.baseline)
            assert baseline.method == "dense"
            assert (baseline.table, baseline.task) == (cell.table, cell.task)
            share = {"2of4": 0.5, "2of4-1epoch": 0.5}.get(cell.variant)
            assert cell.sparsity == (share or int(cell.variant) / 100)
    assert {c.pattern for c in document_cells() if c.table == 3} == {"dense", "block4"}
    assert cell_named("t3/squad/mobilebert/obert/50").baseline == "t3/squad/bert_large/dense"


@pytest.mark.parametrize(
    ("cell_id", "schedule", "distill"),
    [
        ("t1/squad/bert_base/magnitude/2of4", "oneshot", "none"),
        ("t1/squad/bert_base/obert/2of4-1epoch", "oneshot_1epoch", "none"),
        ("t2/squad/bert_large/obert/90", "gradual", "kd_t2"),
        ("t2/squad/bert_large/prune_ofa/95", "prune_ofa", "kd_t2"),
        ("t3/squad/bert_large/dense", "dense_reference", "none"),
        ("t3/squad/bert_large/obert/95", "compound_large", "kd_t5"),
        ("t3/squad/mobilebert/obert/50", "compound_mobilebert", "kd_t5_5"),
        ("t4/sst2/bert_base/dense", "dense", "none"),
        ("t4/sst2/bert_base/lottery/90", "lottery", "none"),
        ("t4/sst2/bert_base/prune_ofa/90", "prune_ofa", "kd_t2"),
        ("t4/sst2/bert_base/obert/90", "upstream_transfer", "kd_t5_5"),
        ("t5/sst2/bert_base/obert/90", "upstream_transfer_early_stop", "none"),
        ("t5/sst2/bert_base/magnitude/90", "gradual_magnitude", "none"),
        ("t5/sst2/bert_base/platon/90", "platon", "none"),
    ],
)
def test_recipes_of_the_cells(cell_id, schedule, distill):
    assert (cell_named(cell_id).schedule, cell_named(cell_id).distill) == (schedule, distill)


def test_ls_row_has_the_contract_s_keys():
    row = cell_named("t2/squad/bert_large/prune_ofa/95").listing()
    keys = ["id", "table", "task", "model", "method", "sparsity", "pattern", "published", "note"]
    assert list(row) == keys
    assert row["sparsity"] == 0.95 and row["published"] == {"f1": None, "em": None}


def test_seed_deviations_belong_to_the_released_checkpoints_only():
    mnli, qqp = (
        cell_named("t5/mnli/bert_base/obert/90"),
        cell_named("t5/qqp/bert_base/obert/90"),
    )
    # As the model cards print them, cut to three decimals.
    assert published_deviation(mnli, "accuracy") == (pytest.approx(0.086, abs=1e-3), 4)
    assert published_deviation(mnli, "accuracy_mm") == (pytest.approx(0.241, abs=1e-3), 4)
    assert published_deviation(qqp, "accuracy") == (pytest.approx(0.061, abs=1e-3), 4)
    assert published_deviation(qqp, "f1") == (pytest.approx(0.079, abs=1e-3), 4)
    assert published_deviation(cell_named("t5/qqp/bert_base/platon/90"), "accuracy") is None
    assert published_deviation(cell_named("t5/sst2/bert_base/obert/90"), "accuracy") is None
    others = ({"model": "bert_large"}, {"pattern": "block4"}, {"sparsity": 0.95})
    for other in others:
        assert published_deviation(replace(mnli, **other), "accuracy") is None


def test_the_layouts_show_every_published_metric_once():
    shown = Counter()
    for layout in layouts():
        for row in layout.rows:
            assert len(row) == len(layout.head)
            places = {(p.cell, m) for p in row for m in p.metrics}
            assert all(cell_named(name).table == layout.table for name, _ in places)
            shown.update(places)
    wanted = {(cell.id, metric) for cell in document_cells() for metric in cell.published}
    assert set(shown) == wanted
    twice = {place for place, count in shown.items() if count > 1}
    assert {name for name, _ in twice} == {"t2/squad/bert_large/dense"}  # printed in both rows


METHOD_OF = {
    "Magnitude": "magnitude",
    "Prune OFA": "prune_ofa",
    "LT-BERT": "lottery",
    "l_0 Regularization": "l0",
    "Movement": "movement",
    "Soft-Movement": "soft_movement",
    "PLATON": "platon",
    "oBERT (ours)": "obert",
}
TASK_OF = {
    name: task
    for task, name in (
        ("squad", "SQuAD"),
        ("mnli", "MNLI"),
        ("qqp", "QQP"),
        ("qnli", "QNLI"),
        ("mrpc", "MRPC"),
        ("sst2", "SST-2"),
        ("cola", "CoLA"),
        ("stsb", "STS-B"),
    )
}
METRIC_OF = {"Acc": "accuracy", "Accuracy": "accuracy", "F1": "f1", "Mcc": "mcc", "EM": "em"}
METRIC_OF |= {"Pear": "pearson", "Spear": "spearman", "m": "accuracy", "mm": "accuracy_mm"}


def test_methods_and_tasks_are_called_as_printed():
    assert {task: name for name, task in TASK_OF.items()} == TASKS
    for name, method in METHOD_OF.items():
        assert name.replace("_", "").casefold().startswith(METHODS[method].casefold())


UNDER = {"Magnitude": "magnitude", "Prune OFA": "prune_ofa", "LT-BERT": "lottery", "l0": "l0"}
UNDER |= {"Movement": "movement", "Soft-movement": "soft_movement", "PLATON": "platon"}
UNDER |= dict.fromkeys(("oBERT", "oBERT + 1 epoch", "GPU speedup"), "obert")
UNDER |= dict.fromkeys(("BERT-Base", "BERT-Large"), "dense")
IN_FULL = {"matched": "accuracy", "mismatched": "accuracy_mm"}
IN_FULL |= {"Pearson": "pearson", "Spearman": "spearman"}
THIRD = {"BERT-Large dense": "bert_large/dense", "oBERT-Large": "bert_large/obert/95"}
THIRD |= {"oBERT-MobileBERT": "mobilebert/obert/50"}
SIZE = {"F1": "f1", "File size": "file_mb", "Compression": "compression"}
SIZE |= {"Throughput": "throughput", "Speedup": "speedup"}


def test_heads_and_labels_say_what_stands_under_and_beside_them():
    for layout in layouts():
        for label, *row in layout.rows:
            places = [(h, s) for h, s in zip(layout.head[1:], row, strict=True) if s.cell]
            if layout.table == 3:
                assert [(SIZE[h],) for h, _ in places] == [s.metrics for _, s in places]
                assert {s.cell for _, s in places} == {f"t3/squad/{THIRD[label.text]}"}
                continue
            task, _, said = label.text.partition(" ")
            metrics = tuple((METRIC_OF | IN_FULL)[word] for word in re.split("[,/ ]+", said))
            (percent,) = {s.text for s in row if s.text} or {""}
            for head, slot in places:
                cell = cell_named(slot.cell)
                assert (cell.task, cell.method) == (TASK_OF[task], UNDER[head])
                assert slot.metrics == (("gpu_speedup",) if head == "GPU speedup" else metrics)
                assert cell.variant in (None, percent.rstrip("%") or cell.variant)
                assert ("1epoch" in str(cell.variant)) == ("epoch" in head)


def test_how_sure_the_printed_numbers_are():
    """Means of four, three or two runs, as the papers say; two numbers were read off a figure."""
    means = {c.id: c.runs for c in document_cells() if c.runs > 1}
    four = [f"t4/{t}/bert_base/obert/90" for t in ("sst2", "qnli")]
    four += [f"t5/{t}/bert_base/obert/90" for t in TASKS if t != "squad"]
    two = [f"t4/{t}/bert_base/prune_ofa/90" for t in ("sst2", "qnli")]
    two += [f"t2/squad/bert_large/prune_ofa/{level}" for level in (90, 95)]
    three = [f"t2/squad/bert_large/obert/{level}" for level in (90, 95)]
    assert means == dict.fromkeys(four, 4) | dict.fromkeys(three, 3) | dict.fromkeys(two, 2)
    read_off = {c.id: c.reading_error for c in document_cells() if c.reading_error}
    assert read_off == {f"t4/{t}/bert_base/lottery/90": 2.5 for t in ("sst2", "qnli")}


def numbers(text: str) -> list[float | None]:
    return [None if t == "NA" else float(t) for t in re.findall(r"NA|\d+\.\d+|\d+", text)]


def printed(document: str) -> dict[str, dict[str, float | None]]:
    """All published values but table 3's, read off the tab-separated lines of the document."""
    found: dict[str, dict[str, float | None]] = {}
    table, head = 0, []
    for line in document.splitlines():
        if match := re.match(r"Table (\d)", line):
            table = int(match[1])
        fields = line.split("\t")
        if fields[0] == "Task":
            head = fields
        elif table != 3 and len(fields) > 1 and (match := re.match(r"(\S+)\s+(.*)", fields[0])):
            task = TASK_OF[match[1]]
            names = [METRIC_OF[t] for t in re.split(r"[,/ ]+", match[2])]
            row = dict(zip(head, fields, strict=True))
            percent = row.get("Sparsity", "90%").rstrip("%")
            model = "bert_large" if "BERT-Large" in head else "bert_base"
            for column, text in list(row.items())[1:]:
                stem = f"t{table}/{task}/{model}"
                if column.upper().startswith("BERT"):
                    name = f"{stem}/dense"
                elif column in METHOD_OF:
                    variant = "2of4" if table == 1 else percent
                    name = f"{stem}/{METHOD_OF[column]}/{variant}"
                elif column == "GPU speedup":
                    found[f"{stem}/obert/2of4"]["gpu_speedup"] = numbers(text)[0]
                    continue
                else:
                    continue
                values = numbers(text)
                values *= len(names) if values == [None] else 1
                found[name] = dict(zip(names, values, strict=True))
    caption = re.search(r"\(F1, EM\) = \(([\d.]+), ([\d.]+)\)", document)
    assert caption is not None
    found["t1/squad/bert_base/obert/2of4-1epoch"] = {
        "f1": float(caption[1]),
        "em": float(caption[2]),
    }
    return found


@pytest.mark.shared
def test_every_number_is_as_printed(shared_dir: Path):
    document = (shared_dir / "reference" / "seed-tables.txt").read_text("utf-8")
    found = printed(document)
    assert len(found) == 66
    assert found == {c.id: dict(c.published) for c in document_cells() if c.table != 3}
    third = document[document.index("Model\tPrecision") :].splitlines()[1:3]
    dense, others = (numbers(line.replace("1.30 GB", "1300")) for line in third)
    values = {c.id: list(c.published.values()) for c in document_cells() if c.table == 3}
    assert values["t3/squad/bert_large/dense"] == [dense[i] for i in (1, 3, 4, 5, 6)]
    f1s = re.findall(r"(\d\d\.\d\d) \(R", third[1])
    rest = third[1].split("\t")[3:]
    for place, name in enumerate(("bert_large/obert/95", "mobilebert/obert/50")):
        expected = [float(f1s[place])] + [numbers(column)[place] for column in rest]
        assert values[f"t3/squad/{name}"] == expected
    assert others  # the line was there


def test_the_catalogue_is_light():
    script = (
        "import sys, obert_sweeps.catalogue.layouts, obert_sweeps.report.build; "
        "import obert_sweeps.report.pages.files, obert_sweeps.report.pages.terminal; "
        "heavy = {'torch', 'transformers', 'datasets', 'ray', 'matplotlib', 'scipy', 'numpy', "
        "'jinja2', 'rich'}; print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
