"""Whether a benchmark can be run at all, before anything is started. Imports nothing heavy."""

from __future__ import annotations

from typing import Any

from ..schema import RequestError
from .engines.known import check_engine


def check_benchmark(role: str, recipe: dict[str, Any], config: dict[str, Any]) -> None:
    """RequestError for an engine, an option or a shape that cannot be; other recipes pass.

    `config` are the model's dimensions.
    """
    plan = recipe.get("benchmark")
    if plan is None:
        return
    where = f"benchmark '{role}' of {recipe['model']['name']}"
    if not plan["engines"] or not plan["shapes"]:
        raise RequestError(
            f"{where} has nothing to measure: it needs at least one of engines and one of shapes,"
            " for instance engines=[{name: onnxruntime}] and shapes=[[1, 384]]."
        )
    for engine in plan["engines"]:
        try:
            check_engine(engine)
        except RequestError as error:
            raise RequestError(f"{where}: {error}") from error
    positions = config.get("max_position_embeddings", 512)
    for shape in plan["shapes"]:
        if len(shape) != 2 or min(shape) < 1 or shape[1] > positions:
            raise RequestError(
                f"{where}: {shape} is not a shape. Write [batch, length], with at least one row"
                f" and at most {positions} tokens, which is what the model takes."
            )
    if plan["repeats"] < 1 or plan["warmup"] < 0:
        raise RequestError(
            f"{where} has repeats={plan['repeats']} and warmup={plan['warmup']}: at least 1 and 0."
        )
