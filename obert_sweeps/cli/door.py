"""From the command line to a verb, and from what happened to an exit code.

0 all asked-for cells finished; 1 some failed or are blocked; 2 the request is wrong and nothing was
started; 130 or 143 interrupted, resumable.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from io import TextIOWrapper

from .. import __version__
from ..schema import Interrupted, RequestError
from ..store.place.base import cannot_write
from .manual import PROGRAM, VERBS, help_text
from .streams import patient

ONLY_FOR = {"stage": ("status", "replay"), "confirm": ("gc",)}  # keys of some verbs alone
SHOWN = frozenset({"--cfg", "-c"})  # show the configuration
HYDRA_FLAGS = ("--cfg", "-c", "--info", "-i", "--hydra-help", "--shell-completion", "-sc")


def main(arguments: list[str] | None = None) -> int:
    """Run the program; the return value is its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not _ready_streams():
        print(
            "error: stdout is closed, and the answer goes there. Leave out `>&-`", file=sys.stderr
        )
        return 2
    with patient() as out:
        code = _run(given)
        out.flush()
        if out.fault is not None:
            why = out.fault.strerror
            print(f"error: the answer could not be written to stdout: {why}", file=sys.stderr)
            code = code or 1
    return code


def _run(given: list[str]) -> int:
    try:
        return _dispatch(given)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"{stop}. The same command resumes.", file=sys.stderr)
        return stop.exit_code
    except OSError as error:
        if (told := cannot_write(error)) is None:
            return _defect(error)
        print(f"error: {told}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted. The same command resumes.", file=sys.stderr)
        return 130
    except Exception as error:
        return _defect(error)


def _ready_streams() -> bool:
    """Letters that a stream cannot write become `?`. Whether there is a stdout to answer on."""
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if sys.stdout is None:
        return False
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    return True


def _defect(error: Exception) -> int:
    traceback.print_exception(error)
    what = " ".join(f"{type(error).__name__}: {error}".split())
    print(
        f"error: {what}. This is a defect of {PROGRAM}, not of the request. The traceback is "
        "above, on stderr: please report it with the command.",
        file=sys.stderr,
    )
    return 1


def _dispatch(given: list[str]) -> int:
    if "-m" in given or "--multirun" in given:
        from ..request.overrides import how_to_sweep

        raise RequestError(f"-m (Hydra's multirun) is not supported. {how_to_sweep('method.damp')}")
    verb = given[0] if given and given[0] in VERBS else None
    rest = given[1:] if verb else given
    if any(word.partition("=")[0] in HYDRA_FLAGS for word in rest):
        return _hydra(rest)
    if not given or given[0] in ("--help", "-h", "help"):
        print(help_text())
        return 0
    if given[0] == "--version":
        print(f"{PROGRAM} {__version__}")
        return 0
    if verb is None:
        raise RequestError(
            f"'{given[0]}' is not a verb. Verbs: {', '.join(VERBS)}. See {PROGRAM} --help"
        )
    if "--help" in rest or "-h" in rest:
        print(help_text(verb))
        return 0
    flags = [argument for argument in rest if argument.startswith("-")]
    if flags:
        raise RequestError(
            f"'{flags[0]}' is not an option. Use key=value; see {PROGRAM} {verb} --help"
        )
    from ..request.read import read  # not at the top: help answers without Hydra

    _refuse_no_working_folder()
    loaded = read(rest)
    for key in (override.key_or_group for override in loaded.overrides):
        if verb not in ONLY_FOR.get(key, VERBS):
            others = " and ".join(ONLY_FOR[key])
            raise RequestError(f"{key}= is for {others}, not for {verb}. Leave it out.")
    return int(importlib.import_module(f".verb.{verb}", __package__).main(loaded))


def _refuse_no_working_folder() -> None:
    try:
        os.getcwd()
    except FileNotFoundError:
        raise RequestError(
            "the working folder was deleted. Go to one that exists: cd DIR"
        ) from None


def _hydra(rest: list[str]) -> int:
    """What stays Hydra's own: showing the configuration, and completion of overrides."""
    import hydra

    from ..request.read import read, register_schema
    from ..shipped import conf_dir

    if SHOWN.intersection(word.partition("=")[0] for word in rest):
        # What a verb would refuse is not shown as if it were a request.
        read([word for word in rest if word.startswith("~") or ("=" in word and word[0] != "-")])
    _take_verb_off_completion()
    register_schema()
    sys.argv = [PROGRAM, *rest]
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(
            lambda config: None
        )()
    except SystemExit as stop:
        return 2 if stop.code == 1 else int(stop.code or 0)
    return 0


def _take_verb_off_completion() -> None:
    line = os.environ.get("COMP_LINE", "")
    words = line.split(" ")
    if len(words) > 2 and words[1] in VERBS:
        shorter = " ".join([words[0], *words[2:]])
        point = int(os.environ.get("COMP_POINT", len(line))) - (len(line) - len(shorter))
        os.environ.update(COMP_LINE=shorter, COMP_POINT=str(max(point, 0)))
