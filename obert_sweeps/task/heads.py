"""The heads a model may have: what they give for a batch, and the losses that follow from it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .masking import IGNORED

Batch = dict[str, Tensor]
Logits = tuple[Tensor, ...]


class Head(ABC):
    """The defaults are those of a head that says one thing of a row."""

    name: ClassVar[str]  # which of an encoder's models has it
    predicts: ClassVar[str] = "class"
    per_token: ClassVar[bool] = False  # whether a row has logits for each token
    pass_tokens: ClassVar[int] = 4096  # in a pass whose logits are kept, padding included

    def logits(self, outputs: Any) -> Logits:
        """The tensors that distillation matches: (B, labels), or with `per_token` (B, L, ...)."""
        return (outputs.logits,)

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """The mean hard-label loss of the batch, a scalar with gradient.

        A mean over what `counted` counts that does not depend on padding: a batch is cut and put
        together with others' rows as it suits the machine.
        """

    def counted(self, batch: Batch) -> int:
        """What `loss` is a mean over."""
        return len(batch["input_ids"])

    def distillation_loss(
        self, student: Logits, teacher: Logits, temperature: float, attention_mask: Tensor
    ) -> Tensor:
        """T² KL(teacher_T || student_T), averaged over the tensors of `logits`. A scalar.

        Hinton et al. 2015, as sparseml's DistillationModifier reckons it: a mean over what
        `counted_by_teacher` counts. `attention_mask` (B, L), 1 at real tokens.
        """
        pairs = zip(student, teacher, strict=True)
        return torch.stack(
            [self._divergence(s.float(), t.float(), temperature, attention_mask) for s, t in pairs]
        ).mean()

    def counted_by_teacher(self, batch: Batch) -> int:
        """What `distillation_loss` is a mean over."""
        return len(batch["input_ids"])

    def _divergence(self, s: Tensor, t: Tensor, temperature: float, mask: Tensor) -> Tensor:
        """Of one of the tensors, student's and teacher's, in float32."""
        return temperature**2 * _softened_kl(s, t, temperature).mean()


class Classification(Head):
    """One distribution over the classes a row, (B, classes); labels (B,) int64."""

    name = "classification"

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs.logits, batch["labels"])


class Regression(Head):
    """One score a row, (B, 1); labels (B,) float32."""

    name = "regression"
    predicts = "score"

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        return F.mse_loss(outputs.logits.squeeze(-1), batch["labels"])

    def _divergence(self, s: Tensor, t: Tensor, temperature: float, mask: Tensor) -> Tensor:
        """A score has no distribution: its KL is zero whatever it is. So the squared difference."""
        return F.mse_loss(s, t)


class Span(Head):
    """Start and end, (B, L) each, distributions over a row's real tokens; labels (B, 2) int64."""

    name = "span"
    per_token = True

    def logits(self, outputs: Any) -> Logits:
        return outputs.start_logits, outputs.end_logits

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Mean over start and end."""
        padding = batch["attention_mask"] == 0
        heads = zip(self.logits(outputs), batch["labels"].unbind(-1), strict=True)
        start, end = (
            F.cross_entropy(logits.masked_fill(padding, -math.inf), labels)
            for logits, labels in heads
        )
        return (start + end) / 2

    def _divergence(self, s: Tensor, t: Tensor, temperature: float, mask: Tensor) -> Tensor:
        # Finite over any temperature: what padding contributes is to be 0 x 0 and not 0 x inf.
        s, t = (logits.masked_fill(mask == 0, -1e30) for logits in (s, t))
        return super()._divergence(s, t, temperature, mask)


class MaskedLanguage(Head):
    """A distribution over the vocabulary a token, (B, L, V); labels (B, L), IGNORED where none."""

    name = "mlm"
    per_token = True
    pass_tokens = 1024  # each has as many logits as the vocabulary has words

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Nats a predicted token."""
        labels = batch["labels"].view(-1)
        return F.cross_entropy(outputs.logits.view(len(labels), -1), labels, ignore_index=IGNORED)

    def counted(self, batch: Batch) -> int:
        """Predicted tokens."""
        return int((batch["labels"] != IGNORED).sum())

    def counted_by_teacher(self, batch: Batch) -> int:
        """Real tokens."""
        return int(batch["attention_mask"].sum())

    def _divergence(self, s: Tensor, t: Tensor, temperature: float, mask: Tensor) -> Tensor:
        divergence = _softened_kl(s, t, temperature)
        return temperature**2 * ((divergence * mask).sum() / mask.sum())


def _softened_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(teacher_T || student_T) over the last dimension."""
    log_p = F.log_softmax(teacher / temperature, dim=-1)
    log_q = F.log_softmax(student / temperature, dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)
