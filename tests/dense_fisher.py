"""Gradients of several kinds, and the dense float64 inverses they must lead to."""

from __future__ import annotations

import numpy as np
import torch

from obert_sweeps.method.obs.fisher import FisherInverse

DAMP = 1e-7


def gradients(kind: str, m: int, d: int, scale: float, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    g = rng.standard_normal((m, d))
    if kind == "dead":  # inputs that never fire
        g[:, rng.random(d) < 0.3] = 0.0
    if kind == "repeated":  # inputs that always fire alike
        g[:, 1::3] = g[:, 0::3][:, : g[:, 1::3].shape[1]]
    if kind == "low rank":
        g = rng.standard_normal((m, 3)) @ rng.standard_normal((3, d))
    return torch.tensor(scale * g, dtype=torch.float32)


def dense_blocks(grads: torch.Tensor, block: int, damp: float, m: int) -> np.ndarray:
    """float64: each block of lambda I + 1/m sum g g^T, inverted on its own, by eigenvalues."""
    k, d = grads.shape
    count = -(-d // block)
    padded = np.zeros((k, count * block))
    padded[:, :d] = grads.double().numpy()
    result = []
    for b in range(count):
        part = padded[:, b * block : (b + 1) * block]
        # eigenvectors by an SVD of the gradients: exact for rank-deficient blocks as well
        _, s, vt = np.linalg.svd(part, full_matrices=True)
        eigenvalues = np.full(block, damp)
        eigenvalues[: len(s)] += s**2 / m
        result.append((vt.T / eigenvalues) @ vt)
    return np.stack(result)


def built(grads: torch.Tensor, block: int, m: int, at_once: int = 16) -> FisherInverse:
    inverse = FisherInverse(grads.shape[1], block, DAMP, m)
    for part in grads.split(at_once):
        inverse.add(part)
    return inverse


def worst_error(got: torch.Tensor, expected: np.ndarray) -> float:
    """The largest relative Frobenius error of a block."""
    pairs = zip(got.numpy(), expected, strict=True)
    return max(relative_error(mine, theirs) for mine, theirs in pairs)


def check_inverse(
    inverse: FisherInverse, grads: torch.Tensor, tolerance: float, diagonal: float
) -> np.ndarray:
    """Blocks are the dense inverses, relatively to `tolerance`, symmetric and positive definite;
    so is `diag()`, entry by entry to `diagonal`. Returns the dense inverses."""
    expected = dense_blocks(grads, inverse.block_size, DAMP, len(grads))
    got = inverse.blocks()
    assert worst_error(got, expected) < tolerance
    for mine in got.numpy():
        assert np.linalg.eigvalsh(mine)[0] > 0
        np.testing.assert_array_equal(mine, mine.T)
    entries = np.diagonal(expected, axis1=1, axis2=2).reshape(-1)[: grads.shape[1]]
    np.testing.assert_allclose(inverse.diag().numpy(), entries, rtol=diagonal)
    return expected


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))
