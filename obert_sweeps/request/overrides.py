"""From the words of a command line to Hydra's overrides, and what Hydra's grammar cannot read.

Ids and paths are taken as they were typed: an id like 12e4 is no number, and a path may have any
letter in it.
"""

from __future__ import annotations

import shlex

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from ..schema import RequestError

TEXTS = ("stage", "store", "data_root")  # and every key that ends in `.path`


def parse(words: list[str]) -> list[Override]:
    """The overrides of a command line.

    Raises RequestError for what is no key=value, what Hydra's grammar cannot read and a sweep.
    """
    return [_parse(_as_typed(word)) for word in words]


def spelled(text: str) -> str:
    """A text as a value of Hydra's grammar: in quotes where it would be read as something else."""
    if not text.startswith(("'", '"')) and _value(text) == text:
        return text
    return str(QuotedString(text=text, quote=Quote.single).with_quotes())


def worded(value: object) -> str:
    """A value as the command line says it; a text as it is, without quotes."""
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def how_to_sweep(key: str) -> str:
    """How several values are asked for, where Hydra would have a list of them."""
    return (
        "Several of the document's cells: table=[1,4], cells='t5/sst2/*', seeds=3. For a cell of "
        "your own type one command for each value; they share stages in one store, and the last "
        f"report has them all: for v in A B; do obert-sweeps run table=0 … {key}=$v; done"
    )


def _as_typed(word: str) -> str:
    key, equals, text = word.partition("=")
    if not equals or not (key.lstrip("+") in TEXTS or key.endswith(".path")) or text == "null":
        return word
    if not text.strip(" \t'\""):
        raise RequestError(
            f"'{word}' has no value. Use {key}={'ID' if key == 'stage' else 'DIR'}, or leave it "
            "out."
        )
    quoted = text[0] in "'\"" and isinstance(_value(text), str)  # by the user, for Hydra
    return word if quoted else f"{key}={spelled(text)}"


def _value(text: str) -> object:
    """What Hydra reads a value as; None also where it cannot."""
    try:
        return OverridesParser.create().parse_override(f"key={text}").value()
    except HydraException:
        return None


def _parse(word: str) -> Override:
    key, equals, text = word.partition("=")
    if not equals and not word.startswith("~"):
        raise RequestError(f"'{word}' is no override. Use key=value, for instance table=5.")
    try:
        (override,) = OverridesParser.create().parse_overrides([word])
    except HydraException as error:
        raise RequestError(
            f"cannot read '{word}'. Without quotes a value can have letters from a to z, digits "
            "and / - \\ + . $ % * @ ? | : _ in it. Quote any other text twice, once for the shell "
            f"and once for Hydra: {_twice(key, text)}"
        ) from error
    if override.is_sweep_override():
        raise RequestError(
            f"'{word}' is a Hydra sweep, which is not supported. {how_to_sweep(key)}\nA text with "
            f"a comma in it is quoted twice: {_twice(key, text)}"
        )
    return override


def _twice(key: str, text: str) -> str:
    """A text quoted for Hydra and for the shell."""
    inner = f"{key}={spelled(text)}"
    return shlex.quote(inner) if set(inner) & set('"$`\\!') else f'"{inner}"'
