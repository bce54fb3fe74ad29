"""The words every other module speaks: errors, recipes, stages, runtime. Imports nothing heavy.

A recipe is plain data. `Training` is the strict schema of one training stage: what is not a field
here is refused when a schedule or an override names it. A `Stage` is a node of the plan; its id
(see `identity`) is a hash of what determines its result and of nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


class RequestError(Exception):
    """The request is wrong and nothing was started (exit code 2).

    The message says what is wrong, why, and what to type next.
    """


class StageError(Exception):
    """A stage cannot be completed for a reason that a retry would not mend."""


class WorkerLost(Exception):
    """A worker of the stage's group has died or no longer answers; a new group can go on."""


class Interrupted(Exception):
    """The run was asked to stop; what was finished is kept and the same command resumes."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by signal {signum}")
        self.exit_code = 128 + signum


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that compilers and libraries put behind it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@dataclass
class LearningRatePiece:
    """A straight line from `initial` to `final`, up to epoch `until`; with `every`, a saw-tooth.

    `every` restarts the line from `initial` each so many epochs (sparseml's cyclic-linear).
    """

    until: float
    initial: float
    final: float
    every: float | None = None


@dataclass
class PruningTimes:
    """When pruning steps fall, in epochs, and the sparsity of the first one.

    Steps at start, start + every, … end; with `every` null and `every_steps` given, at start, at
    each optimiser step that `every_steps` divides, and at end; with both null one, at `start`.
    The sparsity at a step follows the cubic of Zhu & Gupta from `initial` to the target.
    Where masks still move after `end`, `until` is the epoch up to which there are steps at the
    target: at each optimiser step that `every_steps` divides, and in any case one, the last, at
    `until` or before the last optimiser step.
    """

    start: float
    end: float
    every: float | None = None
    initial: float = 0.0
    until: float | None = None
    every_steps: int | None = None


@dataclass
class Distillation:
    """loss = (1 - hardness) * task + hardness * T² KL(teacher_T || student_T)."""

    hardness: float
    temperature: float


@dataclass
class Quantization:
    """INT8 imitated in training: ranges follow the data up to epoch `observe_until`, then stay."""

    observe_until: float


@dataclass
class Training:
    """Everything about one training stage but its model, task, method and sparsity target."""

    epochs: float
    batch_size: int
    learning_rate: list[LearningRatePiece]
    pruning: PruningTimes | None = None
    distill: Distillation | None = None
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    keep: str = "last"  # which epoch's weights are the result: last, or best on the development set
    patience: int | None = None  # with keep=best: stop after so many epochs without a better one
    evaluate_every: float = 1.0  # epochs
    freeze: list[str] = field(default_factory=list)  # parameter-name parts held fixed
    keep_layers: int | None = None  # keep the first so many encoder layers, drop the rest for good
    lock_pattern: bool = False  # masks = the non-zero pattern of the weights it starts from
    reset_head: bool = False  # start from a new task head although the parent has one
    prune_also: list[str] = field(default_factory=list)  # further linear layers, by name part
    rewind: str | None = None  # whose encoder weights come back once it is pruned, at epoch 0
    quantize: Quantization | None = None
    precision: str = "fp32"
    group_by_length: int = 0  # rows are dealt by length among so many batches; 0: plain order
    max_train_rows: int | None = None
    max_eval_rows: int | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Training:
        """From a recipe's plain data. StageError for keys that are no fields."""
        parts = {"pruning": PruningTimes, "distill": Distillation, "quantize": Quantization}
        try:
            training = cls(**data)
            training.learning_rate = [LearningRatePiece(**p) for p in data["learning_rate"]]
            for name, kind in parts.items():
                if data.get(name) is not None:
                    setattr(training, name, kind(**data[name]))
        except TypeError as error:
            known = ", ".join(field.name for field in fields(cls))
            raise StageError(
                f"the recipe's training is not understood: {error}. Keys: {known}"
            ) from error
        return training


@dataclass
class Benchmark:
    """How an exported model is measured.

    engines: of each its `name` and options; shapes: (batch, length) pairs, the first of which is
    table 3's. With `gpu` it is measured where a stage has a GPU, and not at all elsewhere.
    """

    engines: list[dict[str, Any]] = field(
        default_factory=lambda: [{"name": n} for n in ("onnxruntime", "openvino", "deepsparse")]
    )
    shapes: list[list[int]] = field(default_factory=lambda: [[128, 384], [1, 384]])
    warmup: int = 2
    repeats: int = 10
    gpu: bool = False
    max_eval_rows: int | None = None


@dataclass
class EqualBudget:
    """What every method trains with on a cell's task under `comparison=equal_budget`.

    Ten epochs are movement pruning's and half of PLATON's tasks'; 32 rows a batch most methods';
    5e-5 is the highest of the rates BERT's authors fine-tune with (Devlin et al. 2019, A.3). None
    of them was searched for any method.
    """

    epochs: float = 10.0  # of a chain's stages on the task, all together
    batch_size: int = 32
    learning_rate: float = 5.0e-5  # the highest of a chain

    def __str__(self) -> str:
        return (
            f"{self.epochs:g} epochs on the task in batches of {self.batch_size} rows, learning"
            f" rate {self.learning_rate:g} at most"
        )


@dataclass
class Runtime:
    """Where and how a stage runs. Never part of its identity."""

    store: str
    device: str = "cpu"
    threads: int = 1
    micro_batch: int | None = None  # rows a forward pass; None: the whole batch
    checkpoint_seconds: float = 60.0
    log_seconds: float = 2.0
    tracker: dict[str, Any] = field(default_factory=dict)
    allow_targets: list[str] = field(default_factory=list)
    memory_gb: float | None = None  # GiB for a pruning step's work; None: what is free
    scratch: str | None = None  # a folder for what does not fit; None: it is computed again
    group_seconds: float = 300.0  # a worker that answers nothing for so long is lost
    output: str | None = None  # another store to write to (replay); parents come from `store`
    again: bool = False  # run although there is a result, from the beginning


def role_group(role: str) -> str:
    """The link of a schedule that a role is of: the rounds of a lottery ticket are all of one."""
    name, _, number = role.rpartition("_")
    return name if name and number.isdigit() else role


def is_training(recipe: Mapping[str, Any]) -> bool:
    """Whether a stage trains, rather than says logits, exports or measures."""
    return bool(recipe["kind"] == "train")


@dataclass
class Stage:
    """A node of the plan.

    `recipe` keys: kind, task, model, sparsity; of training also method, training; of a benchmark
    also benchmark; of a teacher's logits also logits.

    `parents` by role: start, masks, rewind, teacher, against, and logits, the stage that has what
    the teacher says. That one saves time and changes nothing: the identity has all parents but it.
    """

    id: str
    name: str  # for people: "gradual sst2 bert_base obert 90 seed 42"
    recipe: dict[str, Any]
    seed: int
    parents: dict[str, str] = field(default_factory=dict)  # role -> id
    identity: dict[str, Any] = field(default_factory=dict)  # what the id is the hash of
    tags: dict[str, str] = field(default_factory=dict)  # task, model, method, sparsity, role
    stand_in: bool = False
    resources: dict[str, float] = field(default_factory=lambda: {"cpu": 1.0})  # of each worker
    workers: int = 1  # processes that share the work; like `resources` no part of the identity
    cost: dict[str, float] = field(default_factory=dict)  # estimates: seconds, flops, disk_bytes
    notes: dict[str, Any] = field(default_factory=dict)  # source, assumed: provenance, not hashed

    @property
    def role_group(self) -> str:
        """Its part in a chain, by which people count and add up stages."""
        return role_group(self.tags.get("role") or str(self.recipe.get("kind", "stage")))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Stage:
        return cls(**data)
