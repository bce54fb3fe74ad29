"""The model protocol: where an encoder comes from, and which of its weights are prunable."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import nn

from ..schema import RequestError, StageError, first_line
from .check import check_checkpoint

_QUIET = threading.Lock()

HEADS = ("classification", "regression", "span", "mlm")


class Encoder(ABC):
    """An encoder with a task head on it; the leaf says where its weights come from.

    They are looked for in this order: `path`, a local folder in the hub's layout; `hub`, at
    `revision`; and, only with `from_config`, random weights of the dimensions in `config`.
    `config` is also what a plan reckons costs from while no checkpoint is at hand.
    """

    model_type: ClassVar[str]

    def __init__(
        self,
        *,
        name: str,
        hub: str | None = None,
        revision: str | None = None,
        path: str | None = None,
        from_config: bool = False,
        config: dict[str, Any] | None = None,
    ) -> None:
        if not (path or hub or (from_config and config)):
            raise RequestError(
                f"model {name} has nothing to start from. Give a checkpoint folder, model.path=DIR,"
                " or a hub id, model.hub=ID, or make it from nothing, model.from_config=true with"
                " model.config."
            )
        self.name = name
        self.hub = hub
        self.revision = revision
        self.path = path
        self.from_config = from_config
        self.config = config

    @property
    def checkpoint(self) -> str | None:
        """The folder or hub id that holds weights and tokenizer; None when made from nothing."""
        return self.path or self.hub

    def tokenizer(self, folder: str | None = None) -> Any | None:
        """The tokenizer of `folder`, else of the checkpoint; None when made from nothing.

        StageError if the checkpoint has none.
        """
        source = folder or self.checkpoint
        if source is None:
            return None
        # Imported here: it is half of what a process pays before its first stage.
        from transformers import AutoTokenizer

        revision = None if folder or self.path else self.revision
        try:
            return AutoTokenizer.from_pretrained(source, revision=revision)
        except (OSError, ValueError) as error:
            mend = (
                "The folder needs tokenizer.json and tokenizer_config.json beside the weights."
                if folder or self.path
                else "Without the hub name a folder in its layout: model.path=DIR"
            )
            raise StageError(
                f"no tokenizer could be loaded from {source}: {first_line(error)}. {mend}"
            ) from error

    def build(
        self,
        head: str,
        num_labels: int,
        vocab_size: int | None = None,
        folder: str | None = None,
        layers: int | None = None,
        new_head: bool | None = None,
        pooler: bool = False,
    ) -> Any:
        """The model in float32 with SDPA attention, in train mode as torch makes it.

        Weights come from `folder` (a stage's model/), else from the checkpoint, else they are
        random. `new_head` None draws a head that the source lacks, True draws one in any case,
        False refuses a source without one; draws are from torch's global generator: seed it first.
        `vocab_size` is what the tokenizer needs; it sets the size of a model made from nothing.
        `layers` keeps the first so many. `pooler` gives a masked-language model a pooler, which
        its head has no use for, so that it can be pruned with the rest.

        StageError if the source lacks encoder weights or does not fit the tokenizer.
        """
        source = folder or self.checkpoint
        if head not in HEADS:
            raise StageError(f"no task head {head!r}; there are {', '.join(HEADS)}")
        kind = self._classes()[1][head]
        if pooler and head == "mlm":
            kind = _with_pooler(kind)
        model = (
            self._from_nothing(kind, num_labels, vocab_size)
            if source is None
            else self._load(source, kind, num_labels, bool(folder or self.path), new_head is False)
        )
        rows = model.config.vocab_size
        if vocab_size is not None and rows < vocab_size:
            raise StageError(
                f"the model from {source} has embeddings for {rows} tokens and the tokenizer gives"
                f" {vocab_size}: they are not of one checkpoint. Put both into one folder."
            )
        if new_head:
            self._renew_head(model)
        if layers is not None:
            self.drop_layers(model, layers)
        return model

    def _from_nothing(self, kind: Any, num_labels: int, vocab_size: int | None) -> Any:
        config_class, _ = self._classes()
        settings = dict(self.config or {})
        if vocab_size is not None:
            settings["vocab_size"] = vocab_size
        config = config_class(**settings, num_labels=num_labels)
        with quiet():
            return kind._from_config(config, dtype=torch.float32, attn_implementation="sdpa")

    def _load(self, source: str, kind: Any, num_labels: int, local: bool, whole: bool) -> Any:
        if local:
            found = check_checkpoint(source)["model_type"]
            if found != self.model_type:
                raise StageError(
                    f"{source} holds a {found} model and model {self.name} is a {self.model_type}."
                    " Choose the model that belongs to the checkpoint, or another model.path."
                )
        try:
            with quiet():
                model, info = kind.from_pretrained(
                    source,
                    revision=None if local else self.revision,
                    num_labels=num_labels,
                    dtype=torch.float32,
                    attn_implementation="sdpa",
                    ignore_mismatched_sizes=True,  # heads of another width; others refused below
                    output_loading_info=True,
                )
        except (OSError, ValueError) as error:
            raise StageError(
                f"no model could be loaded from {source}: {first_line(error)}. Without a network"
                " name a local folder: model.path=DIR"
            ) from error
        mismatched = {key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]}
        body = model.base_model_prefix + "."
        lacking = sorted(
            key
            for key in {*info["missing_keys"], *mismatched}
            if whole or (key.startswith(body) and not key.startswith(f"{body}pooler."))
        )
        if lacking:
            raise StageError(
                f"the checkpoint {source} lacks {len(lacking)} of the weights needed, or has"
                f" them in another shape: {', '.join(lacking[:3])}"
                f"{' …' if len(lacking) > 3 else ''}. Its config.json belongs to another model."
            )
        model.train()
        return model

    @torch.no_grad()
    def _renew_head(self, model: Any) -> None:
        """Draw the task head anew, as BERT initialises it; the pooler stays."""
        tied = {id(p) for p in model.base_model.parameters()}
        for name, module in model.named_children():
            if name == model.base_model_prefix:
                continue
            for part in module.modules():
                if isinstance(part, nn.Linear) and id(part.weight) not in tied:
                    part.weight.normal_(0.0, model.config.initializer_range)
                if isinstance(part, nn.Linear) and part.bias is not None:
                    part.bias.zero_()

    def prunable(self, model: Any, also: Sequence[str] = ()) -> dict[str, nn.Linear]:
        """The linear layers whose weights are pruned, by their name in the model, in order.

        Encoder layers only: no embeddings, pooler, task head; and every linear layer whose name
        contains one of `also`. StageError if there is none, but for a pooler, which not every head
        has.
        """
        prefix = f"{model.base_model_prefix}.encoder.layer"
        layers = {
            f"{prefix}.{i}.{suffix}": layer.get_submodule(suffix)
            for i, layer in enumerate(model.base_model.encoder.layer)
            for suffix in self._prunable_in_layer(model.config)
        }
        linear = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}
        for part in also:
            found = {name: module for name, module in linear.items() if part in name}
            pooler = part.startswith("pooler") and model.base_model.pooler is None
            if not found and not pooler:
                others = ", ".join(name for name in linear if name not in layers)
                raise StageError(
                    f"training.prune_also has {part!r}, and no linear layer's name contains it."
                    f" Besides the encoder's there are {others}."
                )
            layers |= found
        return layers

    def drop_layers(self, model: Any, keep: int) -> None:
        """Keep the first `keep` encoder layers, for good: the saved model has so many."""
        encoder = model.base_model.encoder
        if not 1 <= keep <= len(encoder.layer):
            raise StageError(
                f"training.keep_layers={keep}, and the model has {len(encoder.layer)} layers. Give"
                " a number from 1 to that, or null to keep them all."
            )
        encoder.layer = nn.ModuleList(list(encoder.layer)[:keep])
        model.config.num_hidden_layers = keep

    @abstractmethod
    def _classes(self) -> tuple[Any, dict[str, Any]]:
        """The configuration class, and the model class of each head."""

    @abstractmethod
    def _prunable_in_layer(self, config: Any) -> list[str]:
        """Names of the prunable modules inside one encoder layer."""


def _with_pooler(masked: Any) -> Any:
    """A masked-language model's class with the pooler that other heads' encoders have."""

    class WithPooler(masked):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            encoder = type(self.base_model)(config)
            setattr(self, self.base_model_prefix, encoder)
            self.post_init()

    WithPooler.__name__ = masked.__name__  # what config.json names
    return WithPooler


@contextmanager
def quiet() -> Iterator[None]:
    """Within it transformers neither warns of new heads nor draws progress bars.

    For one thread at a time: these are settings of the process. And transformers alters its own
    classes while it loads a model; two threads at once can leave them altered, after which every
    masked-language model of the process has an untied head.
    """
    from transformers.utils import logging

    with _QUIET:
        level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(level)
            if bars:
                logging.enable_progress_bar()
