"""The house rules that are tests: small files, packages that ship, a map that is complete."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

LONGEST = 300  # lines a file


def sources(root: Path) -> list[Path]:
    found = sorted((root / "obert_sweeps").rglob("*.py"))
    assert len(found) > 5
    return found


def test_no_file_is_too_long_to_hold_in_the_head(project_root: Path) -> None:
    lengths = {
        str(path.relative_to(project_root)): len(path.read_text().splitlines())
        for path in sources(project_root)
    }
    assert {path: n for path, n in lengths.items() if n > LONGEST} == {}


def test_every_folder_of_modules_is_a_package(project_root: Path) -> None:
    """Without `__init__.py` the import contracts would pass over it in silence."""
    folders = {path.parent for path in sources(project_root)}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_the_constraints_hold_every_dependency_as_the_registry_names_it(project_root: Path) -> None:
    lines = [
        line
        for line in (project_root / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    pins = {}
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), line  # no +local, file://, -e
        name, version = line.split("==")
        pins[re.sub(r"[-_.]+", "-", name).lower()] = version
    assert pins["torch"] == "2.13.0"
    project = tomllib.loads((project_root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(spec for extra in extras for spec in extra)]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=~!]", spec)[0]).lower() for spec in wanted}
    assert names - set(pins) == set()


def test_the_map_in_the_readme_names_every_module(project_root: Path) -> None:
    readme = project_root / "README.md"
    text = readme.read_text() if readme.is_file() else ""
    if not re.search(r"^#+ .*\bmap\b", text, re.IGNORECASE | re.MULTILINE):
        pytest.skip("the README has no map yet")
    parts = [
        path.name + ("/" if path.is_dir() else "")
        for path in (project_root / "obert_sweeps").iterdir()
        if (path.suffix == ".py" and path.name != "__init__.py") or (path / "__init__.py").is_file()
    ]
    assert [part for part in parts if part not in text] == []


def test_every_fault_has_its_row_and_the_tests_it_names_are_there(project_root: Path) -> None:
    text = (project_root / "docs/faults.md").read_text()
    rows = [line.split("|")[1:-1] for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row[0]) for row in rows] == list(range(1, 29))
    for number, _, _, proven, by in rows:
        named = re.findall(r"`([\w/]+\.py)`", by)
        assert all((project_root / "tests" / name).is_file() for name in named), number
        assert named or proven.strip().startswith("no"), f"fault {number} is proven by nothing"


def output(*command: str | Path, **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.slow
def test_the_wheel_works_from_another_folder(project_root: Path, tmp_path: Path) -> None:
    """Built, installed without dependencies beside the development packages, and used."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(tmp_path)]
    output(*pip, *build, project_root)
    (wheel,) = tmp_path.glob("obert_sweeps-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for needed in ("conf/config.yaml", "conf/tracker/wandb.yaml", "py.typed", "schema.py"):
        assert f"obert_sweeps/{needed}" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"obert_sweeps"}

    env = tmp_path / "env"
    output(sys.executable, "-m", "venv", "--without-pip", env)
    python = env / "bin" / "python"
    scheme = {"base": str(env), "platbase": str(env)}
    site = Path(sysconfig.get_path("purelib", vars=scheme))
    # Plain paths only: the .pth of an editable install over there is not read.
    (site / "development.pth").write_text(sysconfig.get_path("purelib") + "\n")
    output(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    there: dict[str, Any] = {"cwd": elsewhere, "env": clean}
    used = output(python, "-c", "import obert_sweeps; print(obert_sweeps.__file__)", **there)
    assert Path(used.strip()).is_relative_to(env)

    program = env / "bin" / "obert-sweeps"
    assert len(json.loads(output(program, "ls", "format=json", **there))) == 69
    assert json.loads(output(program, "plan", "table=1", "format=json", **there))
    assert list(elsewhere.iterdir()) == []
