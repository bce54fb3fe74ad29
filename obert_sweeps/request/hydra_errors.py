"""What Hydra and OmegaConf refuse, in words that say what to type. Within a `hydra_session`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from hydra import compose
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from ..schema import first_line

_NEEDS = {  # what OmegaConf says of a value of the wrong type, and what the key takes
    "converted to Integer": "a whole number, for instance 42",
    "converted to Float": "a number, for instance 0.5",
    "not a valid bool": "true or false",
    "not a ListConfig": "a list, for instance [a,b]",
    "is not Optional": "a value, not null",
}


def in_our_words(error: Exception, chosen: list[str]) -> str:
    """What a person can do about it. `chosen`: the overrides that leaves come by."""
    merging = "Error merging override "
    if isinstance(error.__cause__, OmegaConfBaseException) and str(error).startswith(merging):
        override, why = first_line(error).removeprefix(merging), first_line(error.__cause__)
        needed = [needs for words, needs in _NEEDS.items() if words in why]
        return f"'{override}': " + (f"it must be {needed[0]}." if needed else why)
    if isinstance(error, InterpolationResolutionError):
        return f"{error.full_key}: {first_line(error)}. ${{…}} stands for another key's value."
    text = str(error).strip().split("Config search path:")[0].strip()
    text = text.replace("Could not override", "there is no key").replace("In 'config': ", "")
    lines = [line for line in text.splitlines() if line and "use +" not in line]
    return "\n".join(lines) + _where_keys_are(text, chosen)


def _where_keys_are(text: str, chosen: list[str]) -> str:
    """What was meant, if that can be guessed, and the command that shows the keys there are."""
    unknown = re.search("there is no key '([^']+)'", text)
    if unknown is None:  # it is the choice itself that is wrong
        return "\nSee the keys with: obert-sweeps plan --cfg job"
    near = _near(unknown[1], chosen)
    guess = f" Did you mean {near}?" if near else ""
    return f"{guess}\nSee the keys with: {' '.join(['obert-sweeps plan --cfg job', *chosen])}"


def _near(key: str, chosen: list[str]) -> str | None:
    """A key much like this one, or else one of a group whose last part is; in a `hydra_session`."""
    request = OmegaConf.to_container(compose("config", overrides=chosen), resolve=False)
    known = [k for k in _paths(request) if not k.startswith(("leaf.", "preset.name"))]
    found = get_close_matches(key, known, n=1, cutoff=0.75)
    if not found and "." not in key:
        last = {k.rpartition(".")[2]: k for k in [*known, "sparsity.level", "model.path"]}
        found = [last[name] for name in get_close_matches(key, last, n=1, cutoff=0.75)]
    return found[0] if found else None


def _paths(of: Any, before: str = "") -> Iterator[str]:
    """The keys of a mapping and of those in it, with dots."""
    for key, value in of.items() if isinstance(of, dict) else ():
        yield f"{before}{key}"
        yield from _paths(value, f"{before}{key}.")
