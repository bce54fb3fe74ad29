"""Our training loop against `transformers.Trainer`: rows a second, with and without distillation.

    python benchmarks/training.py --task sst2 --data DATA --model MODEL --json training.json

Peers, in one process and in turns, with the same model, rows, batch and optimiser:
  padded    what one would run: padded to the task's maximum; distilling, the teacher at each step
  grouped   the strongest ordinary set-up: padded to the batch's longest, batches by length, the
            teacher at each step
Ours groups by length too, over the window that the Trainer takes for so many rows, and looks the
teacher's logits up. What computing them costs is measured and shared among the students that use
it; `ratio` counts all of it against one student and one epoch with --students 1.

One epoch of `--steps` batches is timed; of the padded peer, whose steps all cost the same, only
`--padded-steps`. Where one thread does all the work its processor time is taken, since other
programs may be running; else wall time is.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from measuring import TASKS, clock_of, synchronise, task_leaf
from torch import nn
from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments
from transformers import default_data_collator as as_tensors

from obert_sweeps.make import make
from obert_sweeps.method.base import Method
from obert_sweeps.model.bert import Bert
from obert_sweeps.schema import Distillation, LearningRatePiece, Training
from obert_sweeps.sparsity.mask import Masks
from obert_sweeps.sparsity.pattern import pattern_named
from obert_sweeps.task.base import Task
from obert_sweeps.train.batches import Batches
from obert_sweeps.train.data import Data
from obert_sweeps.train.evaluate import row_logits
from obert_sweeps.train.forward import Setup
from obert_sweeps.train.journal import Journal
from obert_sweeps.train.loop import Run, train
from obert_sweeps.train.optim import make_optimizer
from obert_sweeps.train.state import State
from obert_sweeps.train.step import Step
from obert_sweeps.train.teacher import load_logits, save_logits
from obert_sweeps.train.timetable import timetable

BATCH = {"sst2": 32, "mnli": 32, "squad_by_article": 16}
RATE, TEMPERATURE = 5e-5, 2.0


@dataclass
class Setting:
    """What all sides share."""

    task: Task
    tokenizer: Any
    model: Callable[[int], nn.Module]  # by the seed of its head
    batch: int
    steps: int
    data: Data
    device: torch.device
    precision: str
    clock: Callable[[], float]
    teacher: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        self.teacher = self.model(9).eval().requires_grad_(False)
        for name, part in self.teacher.named_children():
            if name != self.teacher.base_model_prefix and isinstance(part, nn.Linear):
                part.weight.mul_(30.0)  # a new head says next to nothing, as the student's does

    @property
    def window(self) -> int:
        """Batches that rows are dealt among by length: what the Trainer takes for so many rows."""
        return max(1, min(len(self.data.train) // (self.batch * 4), 50))

    def seconds_since(self, begun: float) -> float:
        synchronise(self.device)
        return self.clock() - begun


def setting(args: argparse.Namespace) -> Setting:
    task = make(task_leaf(args.task, args.data), [], Task)
    device = torch.device(args.device)
    encoder = Bert(name="bert_base", path=str(args.model))
    tokenizer = encoder.tokenizer()

    def model(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        made = encoder.build(task.head.name, task.num_labels)
        for part in made.modules():
            if isinstance(part, nn.Dropout):
                part.p = args.dropout
        for layer in made.base_model.encoder.layer:
            layer.attention.self.dropout.p = args.dropout
        return made.to(device)

    batch = args.batch or BATCH[args.task]
    data = Data(task, tokenizer, lambda: task.features("train", tokenizer, args.steps * batch))
    clock = clock_of(device, args.threads)
    del data.train.rows[args.steps * batch :]  # more windows than texts
    return Setting(task, tokenizer, model, batch, args.steps, data, device, args.precision, clock)


# --- ours ------------------------------------------------------------------------------------


def fill(at: Setting, file: Path) -> float:
    """Seconds that the teacher takes to say its logits of all rows, and to write them."""
    begun = at.clock()
    said = row_logits(
        at.teacher,
        at.data,
        at.data.train,
        Setup(at.device, at.precision),
        read=lambda outputs, _: at.task.head.logits(outputs),
    )
    save_logits(file, said, at.task.head.per_token, "benchmark")
    return at.seconds_since(begun)


def ours(at: Setting, logits: Path | None, window: int, losses: list[float] | None = None) -> float:
    """Seconds of an epoch of a trial's training loop, evaluation apart."""
    training = Training(
        epochs=1,
        batch_size=at.batch,
        # The Trainer's line: it would reach 0 one step after the last.
        learning_rate=[LearningRatePiece(1, RATE, RATE / at.steps)],
        distill=None if logits is None else Distillation(1.0, TEMPERATURE),
    )
    model, method = at.model(1), Method()
    masks = Masks({})
    optimizer = make_optimizer(training, model, method.attach({}, masks))
    state = State(model, masks, method, optimizer)
    times = timetable(training, "dense", 0.0, lambda: len(at.data.train))
    times.evaluations = set()
    every = 0.0 if losses is not None else 2.0
    journal = Journal(lambda r: None, every, times, state.spent)
    if losses is not None:
        journal.write = lambda record: losses.append(record["loss"])
    begun = at.clock()
    setup = Setup(at.device, at.precision)
    teacher = None if logits is None else load_logits(logits, at.device)
    step = Step(state, training, at.task.head, setup, teacher)
    pattern = pattern_named("dense")
    torch.manual_seed(3)
    train(
        Run(
            training,
            times,
            pattern,
            {},
            at.data,
            Batches(at.data, at.batch, 0, window),
            step,
            journal,
            setup,
            0,
            lambda s: None,
            1e9,
        ),
        state,
    )
    return at.seconds_since(begun)


# --- the peers -------------------------------------------------------------------------------


class Distilling(Trainer):
    """A Trainer that calls a teacher at each step, if it has one."""

    def __init__(self, at: Setting, distil: bool, **more: Any) -> None:
        super().__init__(**more)
        self.at, self.distil = at, distil
        self.losses: list[torch.Tensor] = []  # what it logs itself is rounded

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        if not self.distil:
            return super().compute_loss(model, inputs, return_outputs)
        labels = ("labels", "start_positions", "end_positions")
        given = {name: tensor for name, tensor in inputs.items() if name not in labels}
        outputs = model(**given)
        with torch.no_grad():
            taught = self.at.task.head.logits(self.at.teacher(**given))
        loss = self.at.task.head.distillation_loss(
            self.at.task.head.logits(outputs), taught, TEMPERATURE, given["attention_mask"]
        )
        self.losses.append(loss.detach())
        return loss


class Clock(TrainerCallback):
    def __init__(self, at: Setting) -> None:
        self.at = at

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.begun = self.at.clock()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.seconds = self.at.seconds_since(self.begun)


def example(at: Setting, row: dict[str, Any], length: int | None) -> dict[str, Any]:
    """A row as the library's scripts have it, padded to `length` if that is given."""
    fill = 0 if length is None else length - len(row["input_ids"])
    ids = [int(i) for i in row["input_ids"]]
    found = {
        "input_ids": ids + [at.data.pad_token_id] * fill,
        "attention_mask": [1] * len(ids) + [0] * fill,
        "token_type_ids": [int(i) for i in row["token_type_ids"]] + [0] * fill,
    }
    if at.task.head.name == "span":
        start, end = row["labels"]
        return {**found, "start_positions": int(start), "end_positions": int(end)}
    return {**found, "labels": row["labels"]}


def peer(
    at: Setting,
    distil: bool,
    padded: bool,
    steps: int,
    order: list[int] | None = None,
    losses: list[float] | None = None,
) -> float:
    """Seconds of so many steps of a Trainer. `order`: rows in this order, not grouped."""
    length = at.task.max_length if padded else None
    rows = at.data.train.rows if order is None else [at.data.train.rows[i] for i in order]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=at.batch,
            max_steps=steps,
            learning_rate=RATE,
            train_sampling_strategy="random"
            if padded
            else ("sequential" if order else "group_by_length"),
            use_cpu=at.device.type == "cpu",
            bf16=at.precision == "bf16",
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            seed=3,
        )
        clock = Clock(at)
        trainer = Distilling(
            at,
            distil,
            model=at.model(1),
            args=arguments,
            train_dataset=[example(at, row, length) for row in rows],
            data_collator=as_tensors if padded else DataCollatorWithPadding(at.tokenizer),
            callbacks=[clock],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    if losses is not None:
        losses += [float(loss) for loss in trainer.losses]
    return clock.seconds


# --- the comparison --------------------------------------------------------------------------


def measure(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(args.threads)
    at = setting(args)
    folder = tempfile.TemporaryDirectory()
    file = Path(folder.name) / "logits.safetensors"
    rows = at.steps * at.batch
    padded_rows = args.padded_steps * at.batch
    filled = [fill(at, file)]
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(args.repeats):
        for distil in [True, False] if args.distil == "both" else [args.distil == "yes"]:
            sides = found.setdefault("with distillation" if distil else "without", {})
            sides.setdefault("ours", []).append(
                rows / ours(at, file if distil else None, at.window)
            )
            sides.setdefault("ours, plain order", []).append(
                rows / ours(at, file if distil else None, 0)
            )
            sides.setdefault("grouped", []).append(rows / peer(at, distil, False, at.steps))
            sides.setdefault("padded", []).append(
                padded_rows / peer(at, distil, True, args.padded_steps)
            )
    lengths = [len(row["input_ids"]) for row in at.data.train.rows]
    document: dict[str, Any] = {
        "rows": rows,
        "tokens_a_row": statistics.mean(lengths),
        "window": at.window,
        "fill_seconds": filled,
        "students": args.students,
        "epochs": args.epochs,
    }
    for how, sides in found.items():
        rates = {side: statistics.median(values) for side, values in sides.items()}
        if how == "with distillation":
            # An epoch's seconds, and of the filling what falls to it.
            share = filled[0] / (args.students * args.epochs)
            rates["ours"] = rows / (rows / rates["ours"] + share)
            rates["ours, plain order"] = rows / (rows / rates["ours, plain order"] + share)
            rates["ours, filling for itself alone, one epoch"] = rows / (
                rows / statistics.median(sides["ours"]) + filled[0]
            )
        document[how] = {
            "samples_a_second": rates,
            "of": sides,
            "ratio": rates["ours"] / rates["padded"],
            "ratio_to_grouped": rates["ours"] / rates["grouped"],
        }
    document["ratio"] = document[next(iter(found))]["ratio"]
    if args.losses:
        document["losses"] = compare_losses(at, file)
    folder.cleanup()
    return document


def compare_losses(at: Setting, file: Path) -> dict[str, Any]:
    """Distillation losses of each step, ours in plain order and the Trainer's on the same rows."""
    mine: list[float] = []
    theirs: list[float] = []
    ours(at, file, 0, mine)
    batches = Batches(at.data, at.batch, 0)
    order = [i for step in range(at.steps) for i in batches.indices(step)]
    peer(at, True, False, at.steps, order, theirs)
    return {
        "ours": mine,
        "trainer": theirs,
        "largest_relative_difference": max(
            abs(a - b) / abs(b) for a, b in zip(mine, theirs, strict=True)
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=sorted(TASKS), default="sst2")
    parser.add_argument("--data", type=Path, required=True, help="DIR/<task>/train.parquet")
    parser.add_argument("--model", type=Path, required=True, help="a folder in the hub's layout")
    parser.add_argument("--steps", type=int, default=48, help="of one epoch, ours and grouped")
    parser.add_argument("--padded-steps", type=int, default=8)
    parser.add_argument("--batch", type=int, help="rows; default 32, SQuAD 16")
    parser.add_argument("--distil", choices=["both", "yes", "no"], default="both")
    parser.add_argument("--students", type=int, default=6, help="that use the teacher's logits")
    parser.add_argument("--epochs", type=float, default=10, help="of each student")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--losses", action="store_true", help="compare losses of each step as well")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    found = measure(args)
    print(
        f"{args.task}, {found['rows']} rows of {found['tokens_a_row']:.1f} tokens in batches of"
        f" {args.batch or BATCH[args.task]}, {args.precision}, {args.threads} thread(s),"
        f" {args.device}; the teacher's logits took {found['fill_seconds'][0]:.1f} s, shared by"
        f" {args.students} students of {args.epochs:g} epochs"
    )
    for how in ("with distillation", "without"):
        if how not in found:
            continue
        rates: dict[str, float] = found[how]["samples_a_second"]
        print(f"\n{how:44}{'samples/s':>10}{'of padded':>11}{'of grouped':>12}")
        for side, rate in rates.items():
            ratios = f"{rate / rates['padded']:10.2f}x{rate / rates['grouped']:11.2f}x"
            print(f"{side:44}{rate:10.1f}{ratios}")
    if args.losses:
        worst = found["losses"]["largest_relative_difference"]
        print(f"\nlosses of {len(found['losses']['ours'])} steps differ by at most {worst:.1e}")
    if args.json:
        settings = {k: str(v) for k, v in vars(args).items() if k != "json"}
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        with open(args.json, "w") as file:
            json.dump({"settings": settings, "versions": versions, **found}, file, indent=1)


if __name__ == "__main__":
    main()
