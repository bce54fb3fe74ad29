"""What a request says and no selected stage feels is refused: it was meant to change something."""

from __future__ import annotations

from collections.abc import Collection

from ..schema import RequestError
from .read import OVERLAYS, Loaded


def refuse_untouched(loaded: Loaded, touched: Collection[str]) -> None:
    """RequestError for a budget, an override of a preset, or a distillation that changes nothing.

    `touched`: the keys that changed a stage, `budget.KEY`, `preset.GROUP.KEY`, `distill.NAME`.
    """
    for key, value in loaded.request.budget.items():
        if value is not None and f"budget.{key}" not in touched:
            raise RequestError(
                f"budget.{key}={value} touches no stage of the selected cells. Leave it out, "
                "or select cells that it changes."
            )
    overlays = tuple(f"preset.{group}." for group in (*OVERLAYS, "equal_budget"))
    for override in loaded.overrides:
        part = ".".join(override.key_or_group.split(".")[:3])
        if part.startswith(overlays) and part not in touched:
            raise RequestError(
                f"'{override.input_line}' touches no stage of the selected cells. Leave it out."
            )
    for override in loaded.leaf_overrides.get("task", []):
        if override.key_or_group == "task.data" and loaded.request.data_root is None:
            raise RequestError(
                f"'{override.input_line}' names a folder below data_root, and there is no "
                "data_root. Use data_root=DIR too."
            )
    distill = loaded.choices.get("distill", "none")
    if distill != "none" and f"distill.{distill}" not in touched:
        raise RequestError(
            f"distill={distill} has no effect: no stage of the schedule takes it. Leave it out, or"
            " use a schedule that does, such as schedule=gradual."
        )
