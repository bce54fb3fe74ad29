"""The texts of masked-language modelling: lines, or pairs of lines, split for training and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from ..schema import RequestError, StageError
from .sources import FolderRows, GeneratedRows, HubRows, subset

Line = tuple[str, ...]  # one text, or two that go into two segments


class Corpus:
    """Lines of one source. Generated lines have a validation split; elsewhere the first
    `held_out_rows` of a fixed shuffle of the training lines are held out (at most a tenth).

    `hubs`: keys hub, hub_config, revision, text_columns. `folders`: keys data, folder,
    text_columns. Raises RequestError where the source is not described.
    """

    def __init__(
        self,
        *,
        name: str,
        source: str,
        hubs: Sequence[Mapping[str, Any]],
        folders: Sequence[Mapping[str, Any]],
        held_out_rows: int,
        generator: Mapping[str, Any],
    ) -> None:
        self.name = name
        self.held_out_rows = held_out_rows
        self.generated = GeneratedRows("corpus", generator) if source == "generated" else None
        self.parts: list[tuple[HubRows | FolderRows, list[str]]] = []
        if source == "hub":
            for part in hubs:
                hub = HubRows(part["hub"], part["hub_config"], part["revision"])
                self.parts.append((hub, list(part["text_columns"])))
        elif source == "folder":
            for part in folders:
                if part.get("folder"):
                    columns = list(part["text_columns"])
                    self.parts.append((FolderRows(part["folder"]), columns))
        elif source != "generated":
            raise RequestError(
                f"task.source={source} of {name} is not one of hub, folder, generated. Use "
                "task.source=generated, or data_root=DIR for local texts."
            )
        if self.generated is None and not self.parts:
            raise RequestError(
                f"task {name} with source: {source} names no texts. Use data_root=DIR, which reads "
                "the training texts of the tasks there."
            )

    def lines(self, split: str, max_rows: int | None = None) -> list[Line]:
        """The lines of `train` or `validation`, or a fixed, shuffled subset of them."""
        if self.generated is not None:
            rows = self.generated.rows(split, ["text", "text_pair"], max_rows)
            return [_line(row, ["text", "text_pair"]) for row in rows]
        if split not in ("train", "validation"):
            raise StageError(f"task {self.name} has no split {split}: it has train, validation.")
        lines = [
            line
            for source, columns in self.parts
            for row in source.rows("train", columns)
            if (line := _line(row, columns))
        ]
        lines = list(dict.fromkeys(lines))  # a text in both splits would be a leak
        held_out = min(self.held_out_rows, len(lines) // 10)
        Random("held out").shuffle(lines)
        chosen = lines[:held_out] if split == "validation" else lines[held_out:]
        picked = subset(len(chosen), split, max_rows, f"the corpus of {self.name}, split {split}")
        return [chosen[i] for i in picked] if picked is not None else chosen


def _line(row: Mapping[str, Any], columns: list[str]) -> Line:
    return tuple(row[column].strip() for column in columns if (row[column] or "").strip())
