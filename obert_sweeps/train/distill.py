"""Knowledge distillation (Hinton et al. 2015), as sparseml's DistillationModifier reckons it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Logits = tuple[Tensor, ...]


def distillation_loss(
    student: Logits, teacher: Logits, temperature: float, head: str, attention_mask: Tensor
) -> Tensor:
    """T² KL(teacher_T || student_T), a mean over rows, averaged over the heads. A scalar.

    Logits: (B, labels) for classification; start and end, (B, L) each, for spans, where the
    distribution is over the row's real tokens; (B, L, vocabulary) for MLM, a mean over real tokens.
    `attention_mask` (B, L), 1 at real tokens. For regression, whose one output has no distribution
    (the KL is zero whatever it is), the squared difference takes its place, without temperature.
    """
    losses = [
        _of_head(s.float(), t.float(), temperature, head, attention_mask)
        for s, t in zip(student, teacher, strict=True)
    ]
    return torch.stack(losses).mean()


def _of_head(
    student: Tensor, teacher: Tensor, temperature: float, head: str, mask: Tensor
) -> Tensor:
    if head == "regression":
        return F.mse_loss(student, teacher)
    if head == "span":
        # Finite, so that what padding contributes is 0 x 0 and not 0 x inf.
        lowest = torch.finfo(student.dtype).min / 4
        student = student.masked_fill(mask == 0, lowest)
        teacher = teacher.masked_fill(mask == 0, lowest)
    log_p = F.log_softmax(teacher / temperature, dim=-1)
    log_q = F.log_softmax(student / temperature, dim=-1)
    divergence = (log_p.exp() * (log_p - log_q)).sum(dim=-1)
    if head == "mlm":
        mean = (divergence * mask).sum() / mask.sum()
    else:
        mean = divergence.mean()
    return temperature**2 * mean
