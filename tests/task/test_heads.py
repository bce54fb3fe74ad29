"""The distillation loss against float64 numpy, row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from obert_sweeps.task.heads import Classification, MaskedLanguage, Regression, Span


def kl(teacher: np.ndarray, student: np.ndarray, temperature: float) -> float:
    """KL of one row's distributions, both softened."""

    def log_softmax(logits: np.ndarray) -> np.ndarray:
        scaled = logits.astype(np.float64) / temperature
        return scaled - np.log(np.exp(scaled - scaled.max()).sum()) - scaled.max()

    p, q = log_softmax(teacher), log_softmax(student)
    return float((np.exp(p) * (p - q)).sum())


def logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 4


MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]])


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.5])
def test_classification_is_a_mean_over_rows(temperature: float) -> None:
    s, t = logits(3, 4), logits(3, 4, seed=1)
    rows = [kl(t[i].numpy(), s[i].numpy(), temperature) for i in range(3)]
    found = Classification().distillation_loss((s,), (t,), temperature, MASK)
    assert float(found) == pytest.approx(temperature**2 * np.mean(rows), rel=1e-5)


@pytest.mark.parametrize("temperature", [2.0, 5.5])
def test_spans_are_over_real_tokens_and_averaged_over_start_and_end(temperature: float) -> None:
    s = (logits(3, 5), logits(3, 5, seed=1))
    t = (logits(3, 5, seed=2), logits(3, 5, seed=3))
    heads = []
    for a, b in zip(s, t, strict=True):
        lengths = MASK.sum(1).tolist()
        rows = [kl(b[i, :n].numpy(), a[i, :n].numpy(), temperature) for i, n in enumerate(lengths)]
        heads.append(temperature**2 * np.mean(rows))
    for tensor in s:
        tensor.requires_grad_()
    found = Span().distillation_loss(s, t, temperature, MASK)
    assert float(found.detach()) == pytest.approx(np.mean(heads), rel=1e-5)
    found.backward()
    for tensor in s:
        assert bool(tensor.grad.isfinite().all())  # type: ignore[union-attr]
        assert bool((tensor.grad[MASK == 0] == 0).all())  # type: ignore[index]
        assert bool((tensor.grad[MASK == 1] != 0).all())  # type: ignore[index]


def test_spans_are_finite_at_low_temperatures_too() -> None:
    s, t = logits(3, 5).requires_grad_(), logits(3, 5, seed=2)
    lengths = MASK.sum(1).tolist()
    student = s.detach().numpy()
    rows = [kl(t[i, :n].numpy(), student[i, :n], 0.01) for i, n in enumerate(lengths)]
    found = Span().distillation_loss((s, s), (t, t), 0.01, MASK)
    assert float(found.detach()) == pytest.approx(0.01**2 * np.mean(rows), rel=1e-4)
    found.backward()
    assert s.grad is not None and bool(s.grad.isfinite().all())
    assert bool((s.grad[MASK == 0] == 0).all())


def test_mlm_is_a_mean_over_real_tokens() -> None:
    s, t = logits(3, 5, 7), logits(3, 5, 7, seed=1)
    tokens = [kl(t[i, j].numpy(), s[i, j].numpy(), 5.5) for i, j in MASK.nonzero().tolist()]
    assert len(tokens) == 10
    found = MaskedLanguage().distillation_loss((s,), (t,), 5.5, MASK)
    assert float(found) == pytest.approx(5.5**2 * np.mean(tokens), rel=1e-5)


def test_equal_logits_cost_nothing_in_any_head() -> None:
    same = logits(3, 5)
    for head in (Classification(), Span(), Regression()):
        assert float(head.distillation_loss((same,), (same,), 2.0, MASK)) == pytest.approx(0.0)


def test_regression_pulls_towards_the_teacher() -> None:
    s, t = torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [7.0]])
    found = Regression().distillation_loss((s,), (t,), 5.5, MASK[:2])
    assert float(found) == pytest.approx((1 + 16) / 2)
