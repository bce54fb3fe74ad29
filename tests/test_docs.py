"""The documents: links lead somewhere, commands are understood, the tutorial's method is one."""

from __future__ import annotations

import inspect
import re
import shlex
import sys
import types
from pathlib import Path

import pytest
import yaml

from obert_sweeps.cli.manual import VERBS
from obert_sweeps.request.read import read

COMMAND = re.compile(r"^ *obert-sweeps +(.+)$", re.MULTILINE)
MADE_BY_THE_READER = {
    "method=row_relative": "method=magnitude",
    "method=mine": "method=magnitude",
    "'hydra.searchpath=[file:///home/me/conf]'": "",
    "task=reviews": "task=sst2",
}


def documents(root: Path) -> list[Path]:
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def commands(text: str) -> list[str]:
    """Lines that call the program, without what explains them behind two blanks or a #."""
    return [re.split(r"  +|\s+#", line)[0].rstrip("`.;") for line in COMMAND.findall(text)]


def test_links_lead_to_files(project_root: Path) -> None:
    broken = [
        f"{page.name}: {target}"
        for page in documents(project_root)
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


@pytest.mark.slow
def test_commands_are_understood(project_root: Path) -> None:
    seen = 0
    for page in documents(project_root):
        for line in commands(page.read_text()):
            for made, shipped in MADE_BY_THE_READER.items():
                line = line.replace(made, shipped)
            verb, *said = shlex.split(line)
            if verb in ("VERB", "--help"):
                continue
            assert verb in VERBS, f"{page.name}: {line}"
            read(said)
            seen += 1
    assert seen > 20


@pytest.fixture
def tutorial(project_root: Path) -> dict[str, str]:
    """Path -> the block that the tutorial says to put there."""
    text = (project_root / "docs/tutorial.md").read_text()
    found = re.findall(r"`([\w/]+\.(?:py|yaml))`:\n\n```\w+\n(.*?)```", text, re.DOTALL)
    return dict(found)


def test_the_tutorial_s_method_passes_its_own_test(
    tutorial: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "obert_sweeps.method.row_relative"
    module = types.ModuleType(name)
    module.__package__ = "obert_sweeps.method"
    monkeypatch.setitem(sys.modules, name, module)
    exec(tutorial["obert_sweeps/method/row_relative.py"], module.__dict__)
    leaf = yaml.safe_load(tutorial["conf/method/row_relative.yaml"])
    assert leaf.pop("_target_") == f"{name}.RowRelative" and leaf.pop("source")
    assert leaf.pop("assumed") == {}
    parameters = inspect.signature(module.RowRelative).parameters
    assert leaf == {key: p.default for key, p in parameters.items()}
    test: dict[str, object] = {}
    exec(tutorial["tests/method/test_row_relative.py"], test)
    (check,) = [value for key, value in test.items() if key.startswith("test_")]
    check()  # type: ignore[operator]
