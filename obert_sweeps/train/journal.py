"""A stage's records while it trains: losses and rates for metrics.jsonl and the tracker."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..task.heads import Batch
from .cost import Spent, Work, rates, read_clocks
from .timetable import Timetable

Write = Callable[[dict[str, Any]], None]


class Diverged(Exception):
    """Training has left the finite numbers; `evidence` says what was seen."""

    def __init__(self, **evidence: Any) -> None:
        super().__init__(evidence.get("reason", "diverged"))
        self.evidence = evidence


class Journal:
    """Adds up losses on the device and looks at them only when a record is due, or asked for.

    A record holds the mean loss since the one before it. Diverged is raised when that is not
    finite. `clocks`: what `read_clocks` gave when the stage began, if that was before now.
    """

    def __init__(
        self,
        write: Write,
        every_seconds: float,
        times: Timetable,
        spent: Spent,
        clocks: tuple[float, float] | None = None,
        work: Work | None = None,
    ) -> None:
        self.write = write
        self.every_seconds = every_seconds
        self.times = times
        self.spent = spent
        self.work = work
        self._wall, self._cpu = clocks or read_clocks()
        self._last = time.monotonic()
        self._begin()

    def _begin(self) -> None:
        self._loss: Tensor | None = None
        self._count = self._rows = self._tokens = self._cells = 0
        self._training = 0.0

    def step_taken(self, batch: Batch, loss: Tensor, seconds: float) -> None:
        """Note one optimiser step; nothing is read from the device."""
        self._loss = loss.clone() if self._loss is None else self._loss.add_(loss)
        self._count += 1
        self._rows += len(batch["input_ids"])
        self._tokens += int(batch["attention_mask"].sum())  # a batch lies on the CPU
        self._cells += batch["input_ids"].numel()
        self._training += seconds

    @property
    def due(self) -> bool:
        return time.monotonic() - self._last >= self.every_seconds

    def record(self, step: int, rate: float, sparsity: float) -> None:
        """Write what came since the last record. Waits for the device."""
        if self._loss is None:
            return
        before = time.monotonic()
        loss = float(self._loss) / self._count
        self._training += time.monotonic() - before  # asynchronous steps end here
        spent = self.spent
        spent.rows, spent.tokens = spent.rows + self._rows, spent.tokens + self._tokens
        spent.cells, spent.training = spent.cells + self._cells, spent.training + self._training
        now = Spent(
            training=max(self._training, 1e-9),
            rows=self._rows,
            tokens=self._tokens,
            cells=self._cells,
        )
        self.write(
            {
                "step": step,
                "steps": self.times.steps,
                "epoch": self.times.epoch(step),
                "epochs": self.times.epoch(self.times.steps),
                "loss": loss if math.isfinite(loss) else None,
                "lr": rate,
                "sparsity": sparsity,
                **rates(now, self.work),
                "time": time.time(),
            }
        )
        self._begin()
        self._last = time.monotonic()
        if not math.isfinite(loss):
            raise Diverged(
                reason="the training loss is not finite",
                epoch=self.times.epoch(step),
                step=step,
            )

    def evaluated(self, step: int, epoch: float, metrics: dict[str, float]) -> None:
        self.write({"step": step, "epoch": epoch, "metrics": finite(metrics), "time": time.time()})

    def settle(self) -> None:
        """Add the time since the last call to what the stage has cost."""
        wall, cpu = read_clocks()
        self.spent.wall += wall - self._wall
        self.spent.cpu += cpu - self._cpu
        self._wall, self._cpu = wall, cpu


def finite(metrics: dict[str, float]) -> dict[str, float | None]:
    """Metrics fit for JSON: None for what is undefined."""
    return {k: float(v) if math.isfinite(v) else None for k, v in metrics.items()}
