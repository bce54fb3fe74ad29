"""The files and the screen: whole, escaped, self-contained."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from statistics import stdev

import pytest
from report.fake_sweep import sweep
from rich.console import Console

from obert_sweeps import __version__
from obert_sweeps.report.build import build
from obert_sweeps.report.facts.traces import Traces
from obert_sweeps.report.pages.files import write
from obert_sweeps.report.pages.html import html
from obert_sweeps.report.pages.links import run_links
from obert_sweeps.report.pages.markdown import markdown
from obert_sweeps.report.pages.sheet import sheet
from obert_sweeps.report.pages.terminal import terminal

VOID = {"meta", "link", "br", "img", "hr", "use", "path"}


class Reader(HTMLParser):
    """Checks nesting; gathers text, ids, and addresses."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.text: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "src", "xlink:href"):
                self.addresses.append(value)

    def handle_startendtag(self, tag, attrs):
        if tag not in VOID:
            self.handle_starttag(tag, attrs)
            self.open.pop()
        else:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def report():
    fake = sweep(seeds=(1, 2))
    fake.finish_as_published({1: -0.05, 2: 0.05})
    fake.finish("t5/sst2/bert_base/l0/90", 1, accuracy=60.0)
    fake.cells["t4/qnli/bert_base/prune_ofa/90"].blocked = "<script>alert(1)</script> | say data"
    return build(fake, fake)


def test_html_is_well_formed_and_self_contained(report):
    page = html(report, Traces())
    reader = read(page)
    text = " ".join(" ".join(reader.text).split())
    for number in range(1, 6):
        assert f"Table {number}:" in text
    assert "document 83.17 / 74.18" in text and "reproduced" in text
    assert "<script" not in page and "alert(1)" in text
    outside = [a for a in reader.addresses if not a.startswith(("../stages/", "#", "data:"))]
    assert outside == []
    assert re.search(r"url\((?!#)|@import", page) is None
    assert len(reader.ids) == len(set(reader.ids))  # also of the plots
    assert len(re.findall(r"<svg", page)) == len(
        re.findall(r'<svg role="img" aria-label="\w', page)
    )
    cells = [i for i in reader.ids if re.match(r"t\d/", i)]
    assert len(cells) == len(set(cells)) == 69
    assert len(page) < 1_000_000


def test_every_verdict_has_words_beside_its_colour(report):
    page = html(report)
    badges = re.findall(r'<span class="v \w+">(.*?)</span> ([^<]*)</span>', page)
    assert badges and all(label.strip() for _, label in badges)


def test_tables_show_unselected_cells_as_such():
    fake = sweep(seeds=(1,), stand_in=True)
    for name, plan in fake.cells.items():
        plan.selected = name == "t4/sst2/bert_base/obert/90"
    text = " ".join(read(html(build(fake, fake))).text)
    assert "not selected" in text and "92.20" in text and "Table 5:" not in text


def test_a_speed_up_is_no_ratio_of_two_rows_and_the_page_says_so_where_there_is_one():
    fake = sweep(seeds=(1,), stand_in=True)
    fake.finish("t3/squad/bert_large/obert/95", 1, f1=90.0)
    told = "of two runs, so their ratio may be another"
    assert told not in html(build(fake, fake), Traces())
    fake.finish("t3/squad/bert_large/obert/95", 1, f1=90.0, throughput=12.0, speedup=3.0)
    assert html(build(fake, fake), Traces()).count(told) == 1  # under table 3 alone


def test_an_empty_report_renders():
    fake = sweep()
    fake.cells = {}
    found = build(fake, fake)
    read(html(found))
    assert markdown(found).endswith("\n")
    assert terminal(found)


def test_every_number_leads_to_its_stage_and_run(report):
    final = next(e for e in report["cells"] if e["id"] == "t4/sst2/bert_base/obert/90")["finals"][
        "1"
    ]
    page = html(report, run={final: "../wandb/offline-run-x/"}.get)
    assert f'<a href="../stages/{final}/">92.20' in page
    assert f'<a href="../wandb/offline-run-x/" aria-label="W&amp;B run of stage {final}"' in page


def test_runs_are_linked_where_they_are_known(tmp_path):
    for name in ("offline-run-20260101_1-3f", "offline-run-20260102_1-3f", "run-20260101_1-77-1"):
        (tmp_path / "wandb" / name).mkdir(parents=True)
        run = name.split("-")[-1] if name.endswith("3f") else "77"  # W&B may add a number
        (tmp_path / "wandb" / name / f"run-{run}.wandb").touch()
    (tmp_path / "wandb" / "debug.log").touch()
    offline = run_links(tmp_path, {"mode": "offline", "entity": "we", "project": "p"})
    assert offline("3f") == "../wandb/offline-run-20260102_1-3f/"  # the newest start
    assert offline("77") == "../wandb/run-20260101_1-77-1/" and offline("99") is None
    assert run_links(tmp_path / "none", {})("3f") is None
    said = {"run": "77", "digest": "d", "url": "https://w.b/me/p/runs/77"}
    (tmp_path / "wandb/run-20260101_1-77-1/told.json").write_text(json.dumps(said))
    assert run_links(tmp_path, {"mode": "online"})("77") == said["url"]
    online = run_links(tmp_path, {"mode": "online", "entity": "we", "project": "p"})
    assert online("3f").endswith("/we/p/runs/3f") and online("3f").startswith("https://")


def test_the_sheet_has_a_row_for_each_cell_and_metric(report):
    rows = list(csv.DictReader(io.StringIO(sheet(report))))
    assert len(rows) == len({(r["cell"], r["metric"]) for r in rows})
    assert len({r["cell"] for r in rows}) == 69
    (row,) = [r for r in rows if (r["cell"], r["metric"]) == ("t5/qqp/bert_base/obert/90", "f1")]
    assert (row["published"], row["seeds"], row["cell_verdict"]) == ("87.1", "1 2", "reproduced")
    assert float(row["measured"]) == pytest.approx(87.1)
    assert float(row["sd"]) == pytest.approx(0.9 * stdev([-0.05, 0.05]))  # oBERT's share
    low, high = float(row["interval_low"]), float(row["interval_high"])
    assert (low + high) / 2 == pytest.approx(87.1) and high - low == pytest.approx(
        2 * 12.706 * 0.9 * 0.05, rel=1e-3
    )
    assert (row["epochs"], row["fisher_gradients"], row["examples"]) == ("8.0", "64.0", "3200.0")
    missing = next(r for r in rows if r["cell"] == "t2/squad/bert_large/prune_ofa/95")
    assert missing["published"] == "" and missing["metric_verdict"] == ""


def test_markdown_tables_keep_their_width(report):
    page = markdown(report)
    assert "<script" not in page
    width = 0
    for line in page.splitlines():
        if line.startswith("|"):
            columns = len(re.findall(r"(?<!\\)\|", line))
            assert width in (0, columns)
            width = columns
        else:
            width = 0
    assert "| t1/squad/bert_base/dense | 88.54±0.07 / 81.41±0.07, n=2 | 88.54 / 81.41 |" in page


def test_published_values_keep_their_printed_digits(report):
    page = markdown(report)
    assert "| 90.20 / 83.35 |" in page  # table 2
    assert "| 82.0 / 82.2 |" in page and "| 48.47 |" in page  # table 5
    assert "38.2 MB / 34x" in page and "NA" in page


def test_the_screen_shows_cells_claims_and_cpu_seconds(report):
    console = Console(width=170, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for part in terminal(report):
        console.print(part)
    text = console.export_text()
    assert "Table 5" in text and "t5/sst2/bert_base/obert/90" in text
    assert "CPU s" in text and "does not converge (0.00)" in text
    assert "blocked" in text and "alert(1)" in text
    assert "1 blocked" in text


@pytest.mark.parametrize("width", [80, 100])
def test_a_narrow_screen_keeps_cell_ids_whole(report, width):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for part in terminal(report):
        console.print(part)
    first = {line.split()[0] for line in console.export_text().splitlines() if line.strip()}
    assert {entry["id"] for entry in report["cells"]} <= first


def test_the_screen_says_what_a_number_lacks():
    """One of three seeds, or a model that says the same of all rows: the number looks whole."""
    fake, name = sweep(stand_in=True), "t5/mrpc/bert_base/obert/90"
    fake.finish(name, 1, accuracy=68.0, f1=81.0)["remark"] = "one class is predicted for all rows"
    for plan in fake.cells.values():
        plan.selected = plan.cell.id == name
    console = Console(width=170, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for part in terminal(build(fake, fake)):
        console.print(part)
    text = console.export_text()
    assert "stand-in, 1 of 3 seeds" in text
    assert f"{name}: one class is predicted for all rows" in text


def test_every_writer_says_how_methods_were_compared():
    fake, said = sweep(seeds=(1,)), "at equal budget: 3 epochs on the task"
    fake.finish_as_published({1: 0.0})
    fake.comparison = said
    for plan in fake.cells.values():
        plan.comparison = None if plan.cell.method == "dense" else said
    found = build(fake, fake)
    console = Console(width=170, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for part in terminal(found):
        console.print(part)
    text, page = console.export_text(), "".join(read(html(found)).text)
    request = (
        "preset=demo budget.max_train_rows=9"  # nothing else says what rows and models these are
    )
    assert f"made with {request}" in text and f"Made with `{request}`." in markdown(found)
    assert f"Made with {request}; compared {said}." in page
    assert f"compared {said}" in text
    assert f"Compared {said}." in markdown(found)
    pruned = [plan for plan in fake.cells.values() if plan.cell.method != "dense"]
    assert page.count(said) == 1 + len(pruned)  # beside each of them too
    assert found["audit"]["comparison"] == said


def test_a_report_says_whose_values_it_compares_with_and_of_when_it_is():
    fake = sweep(seeds=(1, 2))
    document = (
        "The Optimal BERT Surgeon (Kurtic et al., EMNLP 2022, arXiv 2203.07259),"
        " supplementary tables"
    )
    said = f"Published values: {document}. Written by obert-sweeps {__version__}"
    for text in (markdown(build(fake, fake)), "".join(read(html(build(fake, fake))).text)):
        assert f"{said}." in text and "newest result" not in text
    for seed, when in ((1, 1795835400.0), (2, 1795830000.0)):
        fake.finish("t5/sst2/bert_base/obert/90", seed, accuracy=90.0)["finished"] = when
    found = build(fake, fake)
    assert found["origin"]["newest_result"] == "2026-11-28 03:10 UTC"
    for text in (markdown(found), "".join(read(html(found)).text)):
        assert f"{said}; newest result: 2026-11-28 03:10 UTC." in text


def test_files_are_whole_and_leave_no_part_behind(report, tmp_path):
    folder = tmp_path / "store" / "report"
    paths = write(report, folder)
    assert sorted(p.name for p in folder.iterdir()) == [
        "inference.csv",
        "report.csv",
        "report.html",
        "report.json",
        "report.md",
    ]
    assert sorted(paths) == sorted(folder.iterdir())
    assert json.loads((folder / "report.json").read_text("utf-8")) == json.loads(json.dumps(report))


def test_a_failing_write_keeps_the_old_files(report, tmp_path, monkeypatch):
    write(report, tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write(report, tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_the_same_report_gives_the_same_bytes(report):
    assert html(report, Traces()) == html(report, Traces())
