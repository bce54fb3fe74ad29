"""The files and the screen: whole, escaped, self-contained."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from report.fake_sweep import sweep
from rich.console import Console

from obert_sweeps.report import build, terminal, write
from obert_sweeps.report.html import html
from obert_sweeps.report.markdown import markdown

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
    page = html(report, plots=True)
    reader = read(page)
    text = " ".join(" ".join(reader.text).split())
    for number in range(1, 6):
        assert f"Table {number}:" in text
    assert "document 83.17 / 74.18" in text and "reproduced" in text
    assert "<script" not in page and "alert(1)" in text
    outside = [a for a in reader.addresses if not a.startswith(("../stages/", "#", "data:"))]
    assert outside == []
    assert re.search(r"url\((?!#)|@import", page) is None
    assert 'role="img" aria-label="Share of' in page
    cells = [i for i in reader.ids if re.match(r"t\d/", i)]
    assert len(cells) == len(set(cells)) == 69
    assert len(page) < 1_000_000


def test_every_verdict_has_words_beside_its_colour(report):
    page = html(report, plots=False)
    badges = re.findall(r'<span class="v \w+">(.*?)</span> ([^<]*)</span>', page)
    assert badges and all(label.strip() for _, label in badges)


def test_tables_show_unselected_cells_as_such():
    fake = sweep(seeds=(1,), stand_in=True)
    for name, plan in fake.cells.items():
        plan.selected = name == "t4/sst2/bert_base/obert/90"
    text = " ".join(read(html(build(fake, fake), plots=False)).text)
    assert "not selected" in text and "92.20" in text and "Table 5:" not in text


def test_an_empty_report_renders():
    fake = sweep()
    fake.cells = {}
    found = build(fake, fake)
    read(html(found))
    assert markdown(found).endswith("\n")
    assert terminal(found)


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
    assert "| t1/squad/bert_base/dense | 88.54±0.07 / 81.41±0.07 | 88.54 / 81.41 |" in page


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
    assert f"compared {said}" in console.export_text()
    assert f"Compared {said}." in markdown(found)
    pruned = [plan for plan in fake.cells.values() if plan.cell.method != "dense"]
    assert "".join(read(html(found)).text).count(said) == len(pruned)  # beside each of them
    assert found["audit"]["comparison"] == said


def test_files_are_whole_and_leave_no_part_behind(report, tmp_path):
    folder = tmp_path / "store" / "report"
    paths = write(report, folder, plots=False)
    assert sorted(p.name for p in folder.iterdir()) == ["report.html", "report.json", "report.md"]
    assert sorted(paths) == sorted(folder.iterdir())
    assert json.loads((folder / "report.json").read_text("utf-8")) == json.loads(json.dumps(report))


def test_a_failing_write_keeps_the_old_files(report, tmp_path, monkeypatch):
    write(report, tmp_path, plots=False)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write(report, tmp_path, plots=False)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_the_same_report_gives_the_same_bytes(report):
    assert html(report) == html(report)
