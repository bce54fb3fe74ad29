"""The version and digest of a method's code, read from its source."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from obert_sweeps.cli.caveats import tell_of_changed_code
from obert_sweeps.identity import identity
from obert_sweeps.plan.dag import Plan, make_plan
from obert_sweeps.plan.method_code import Code, Codes
from obert_sweeps.request.read import read
from obert_sweeps.schema import RequestError
from obert_sweeps.store import Store

CLASS = '''"""A method of one's own."""
from obert_sweeps.method.base import Method
raise SystemExit("imported")

class Mine(Method):
    """Its card."""
    {}
    def prune(self, step):
        return {}
'''


@pytest.fixture()
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a class own_package.method.Mine; importing any of it would end the test."""
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("from .method import Mine as Short\nraise SystemExit\n")
    monkeypatch.syspath_prepend(tmp_path)
    return package / "method.py"


def code(target: str = "own_package.method.Mine", allow: Any = ("own_package",)) -> Code:
    return Codes(allow).of(target)


def test_version_and_digest_follow_the_source_and_nothing_is_imported(own: Path) -> None:
    own.write_text(CLASS.format("", 1))
    first = code()
    assert first.version == 1 and first.digest
    own.write_text(CLASS.format("version: ClassVar[int] = 2", 1))
    assert code().version == 2
    own.write_text(CLASS.format("version = 3", 2))
    assert code().version == 3 and code().digest != first.digest
    own.write_text("# a remark\n" + CLASS.format("", 1).replace("Its card", "Another"))
    assert code() == first
    assert "own_package" not in sys.modules


def test_names_are_followed_to_their_class_and_its_bases(own: Path) -> None:
    own.write_text(CLASS.format("version = 2", 1))
    assert code("own_package.Short") == code()
    heir = "from own_package.method import Mine\nclass Heir(Mine): ...\n"
    (own.parent / "heir.py").write_text(heir)
    first = code("own_package.heir.Heir")
    assert first.version == 2
    own.write_text(CLASS.format("version = 2", 5))
    assert code("own_package.heir.Heir").digest != first.digest
    (own.parent / "heir.py").write_text(heir.replace("...", "version = 7"))
    assert code("own_package.heir.Heir").version == 7  # its own word, not its base's
    movement, soft = (code(f"obert_sweeps.method.{n}") for n in ("movement.Movement", "l0.L0"))
    assert movement.version == soft.version == 1 and movement.digest != soft.digest


def test_what_a_method_imports_from_its_own_folder_is_its_code_too(own: Path) -> None:
    """An engine beside the method, however it is imported; not what all the package shares."""
    folder = own.parent
    (folder / "engine").mkdir()
    beside = {
        "engine/__init__.py": "",
        "engine/step.py": "def run():\n    from . import algebra\n",
        "engine/algebra.py": "from .step import run\nfrom ..shared import X\n",
        "shared.py": "X = 1\n",
    }
    for name, text in beside.items():
        (folder / name).write_text(text)
    own.write_text("from .engine.step import run\n" + CLASS.format("", 1))
    first = code()
    for name in ("engine/step.py", "engine/algebra.py"):
        (folder / name).write_text(beside[name] + "Y = 2\n")
        assert code().digest != first.digest, name
        (folder / name).write_text(beside[name])
    (folder / "shared.py").write_text("X = 2\n")
    assert code() == first


def test_what_is_not_allowed_is_refused_and_what_is_not_there_is_not_read(own: Path) -> None:
    """Its version would be taken for the first, and other stages planned than with the key."""
    own.write_text(CLASS.format("version = 2", 1))
    with pytest.raises(RequestError, match=r"say allow_targets=\[own_package\]"):
        code(allow=())
    assert code("own_package.nothing.Mine") == code("own_package.method.Nobody") == Code()


@pytest.mark.parametrize(
    ("line", "says"),
    [("version = 1 + 1", "must be written as a whole number"), ("version =", "is no Python: line")],
)
def test_a_version_that_cannot_be_read_is_refused(own: Path, line: str, says: str) -> None:
    own.write_text(CLASS.format(line, 1))
    with pytest.raises(RequestError, match=says):
        code()


def test_the_first_version_is_not_hashed() -> None:
    recipe = {"kind": "train", "task": {}, "method": {}}
    plain = identity(recipe, 1, {}, None, None)
    assert identity(recipe, 1, {}, None, None, 1) == plain
    assert identity(recipe, 1, {}, None, None, 2) == plain | {"method_version": 2}


def test_a_plan_tells_of_results_of_older_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "table=0 task=sst2 model=bert_base method=magnitude sparsity=unstructured"
    read_code = Codes.of

    def planned(version: int, digest: str) -> Plan:
        def of(codes: Codes, target: str) -> Code:
            mine = target.endswith("Magnitude")
            return Code(version, digest) if mine else read_code(codes, target)

        monkeypatch.setattr(Codes, "of", of)
        return make_plan(read([*words.split(), "schedule=oneshot"]))

    def told(plan: Plan) -> str:
        tell_of_changed_code(plan, set(plan.stages), Store(str(tmp_path)))
        return capsys.readouterr().err

    before = planned(1, "old")
    final = before.wanted()[-1]
    for stage in before.wanted():
        Store(str(tmp_path)).folder(stage.id).write_json("stage.json", stage.as_dict())
    assert told(before) == ""
    changed = planned(1, "new")
    assert list(changed.stages) == list(before.stages)
    assert f"Magnitude has changed since 1 finished stage ran ({final.id})" in told(changed)
    raised = planned(2, "new")
    assert [s.id for s in raised.wanted()][:-1] == [s.id for s in before.wanted()][:-1]
    assert raised.wanted()[-1].id != final.id and told(raised) == ""
