"""The inverse Fisher's two heavy parts as GPU kernels: sums of products, and inversion.

Made of tensor operations, each part goes through the GPU's memory several times: gradients are
widened to float64, products formed, products added. Here a Fisher block stays in registers from its
gradients to its sums, and from its sums to its inverse, so memory is read and written once: 4 k
bytes a weight for k gradients and 8 (B + 1) for the sums. Everything is float64, for GPUs that
multiply in float64 about as fast as in float32 and have tensor cores for it.

Matrices are in the layout of `symmetric.SymmetricBlocks`: cut behind q = B // 2 rows into a corner
(q, q), a side (B - q, q) and the opposite corner (B - q, B - q).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


def add_products(values: Tensor, grads: Tensor, block_size: int) -> None:
    """Add sum g g^T to all matrices. values (count, B - q, 2 q + 1), float64; grads (k, d)."""
    if grads.stride(-1) != 1:
        grads = grads.contiguous()
    fetch = torch.version.cuda is not None and not triton.knobs.runtime.interpret
    shape, how = adding(block_size), launching(block_size)
    _add_products[(len(values),)](
        grads, grads.stride(0), len(grads), grads.shape[1], values, **shape, FETCH=fetch, **how
    )


def invert(values: Tensor, block_size: int, num_grads: int, damp: float) -> bool:
    """Replace each matrix A by (A / m + damp I)^-1. False if one was not positive definite."""
    sound = torch.empty(len(values), dtype=torch.int32, device=values.device)
    # A number passed to a kernel would arrive in float32.
    numbers = torch.tensor([1 / num_grads, damp], dtype=torch.float64, device=values.device)
    shape, how = inverting(block_size), launching(block_size)
    _invert[(len(values),)](values, sound, numbers, **shape, **how)
    return bool(sound.all())


def adding(block_size: int) -> dict[str, int]:
    """The constants of `_add_products` but for FETCH: those of `_invert`, and its step."""
    shape = inverting(block_size)
    return {**shape, "STEP": 16 if shape["HIGH"] <= 32 else 32}


def inverting(block_size: int) -> dict[str, int]:
    """B and q, and the sizes of tiles that hold what is before the cut, and behind it."""
    cut = block_size // 2
    return {
        "B": block_size,
        "Q": cut,
        "LOW": max(16, triton.next_power_of_2(cut)),
        "HIGH": max(16, triton.next_power_of_2(block_size - cut)),
    }


def launching(block_size: int) -> dict[str, int]:
    """What Triton is told of a launch: warps a program, and steps of its loop under way at once."""
    return {"num_warps": 1 if inverting(block_size)["HIGH"] <= 32 else 4, "num_stages": 3}


# One compilation serves all numbers and all parts of a layer.
@triton.jit(do_not_specialize=["row", "count", "weights"], do_not_specialize_on_alignment=["grads"])
def _add_products(
    grads, row, count, weights, values,
    B: tl.constexpr, Q: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr, STEP: tl.constexpr,
    FETCH: tl.constexpr,
):  # fmt: skip
    """One program a block. grads: (count, weights), `row` numbers from one to the next.

    Tile by tile, since registers for all three leave the GPU too few blocks at a time; the
    gradients, read again, are still in cache. FETCH: the sums, needed last, are asked for first.
    """
    base = values + tl.program_id(0).to(tl.int64) * ((B - Q) * (2 * Q + 1))
    if FETCH:
        _fetch(base, (B - Q) * (2 * Q + 1) * 8)
    first = tl.program_id(0).to(tl.int64) * B
    grads += first
    weights -= first
    low, high = tl.arange(0, LOW), tl.arange(0, HIGH)
    place = base + low[:, None] * (2 * Q + 1) + Q + 1 + low[None, :]
    inside = (low[:, None] <= low[None, :]) & (low < Q)[None, :]
    left = (low < Q) & (low < weights)
    right = (high < B - Q) & (Q + high < weights)
    _add_tile(grads, row, count, left, left, place, inside, 0, 0, LOW, LOW, STEP)
    place = base + high[:, None] * (2 * Q + 1) + low[None, :]
    inside = (high < B - Q)[:, None] & (low < Q)[None, :]
    _add_tile(grads, row, count, right, left, place, inside, Q, 0, HIGH, LOW, STEP)
    place = base + high[:, None] * (2 * Q + 1) + Q + high[None, :]
    inside = (high[None, :] <= high[:, None]) & (high < B - Q)[:, None]
    _add_tile(grads, row, count, right, right, place, inside, Q, Q, HIGH, HIGH, STEP)


@triton.jit
def _fetch(base, size: tl.constexpr):
    """Begin to bring `size` bytes into the L2 cache, in its lines of 128; takes no registers."""
    LINES: tl.constexpr = triton.next_power_of_2(triton.cdiv(size, 128))
    first = base.to(tl.pointer_type(tl.int8))
    lines = first + tl.minimum(tl.arange(0, LINES) * 128, size - 1)
    tl.inline_asm_elementwise(  # an instruction of this kind must return something
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [lines],
        dtype=tl.int32, is_pure=False, pack=1,
    )  # fmt: skip


@triton.jit
def _add_tile(
    grads, row, count, in_rows, in_columns, place, inside,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """Add products of gradients from ROWS and from COLUMNS on to what stands at `place`."""
    sums = tl.zeros((HEIGHT, WIDTH), tl.float64)
    for start in range(0, count, STEP):
        number = start + tl.arange(0, STEP)
        line = grads + number.to(tl.int64)[:, None] * row
        there = (number < count)[:, None]
        b = tl.load(line + COLUMNS + tl.arange(0, WIDTH)[None, :], there & in_columns[None, :], 0.0)
        b = b.to(tl.float64)
        if ROWS == COLUMNS:
            a = b
        else:
            a = tl.load(line + ROWS + tl.arange(0, HEIGHT)[None, :], there & in_rows[None, :], 0.0)
            a = a.to(tl.float64)
        sums = tl.dot(a.T, b, sums, out_dtype=tl.float64)
    tl.store(place, tl.load(place, inside, 0.0) + sums, inside)


@triton.jit
def _invert(
    values, sound, numbers,
    B: tl.constexpr, Q: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
):  # fmt: skip
    """One program a block: the inverse A^-1 = N^T N of N with N A N^T = I."""
    low, high = tl.arange(0, LOW), tl.arange(0, HIGH)
    width = 2 * Q + 1
    base = values + tl.program_id(0).to(tl.int64) * ((B - Q) * width)
    share, damp = tl.load(numbers), tl.load(numbers + 1)

    # The identity stands where nothing of the matrix does.
    less, more = tl.minimum(low[:, None], low[None, :]), tl.maximum(low[:, None], low[None, :])
    corner = tl.load(base + less * width + Q + 1 + more, more < Q, 0.0) * share
    corner += tl.where(less == more, tl.where(more < Q, damp, 1.0), 0.0)
    inside = (high < B - Q)[:, None] & (low < Q)[None, :]
    side = tl.load(base + high[:, None] * width + low[None, :], inside, 0.0) * share
    less, more = tl.minimum(high[:, None], high[None, :]), tl.maximum(high[:, None], high[None, :])
    opposite = tl.load(base + more * width + Q + less, more < B - Q, 0.0) * share
    opposite += tl.where(less == more, tl.where(more < B - Q, damp, 1.0), 0.0)

    corner, first = _inverse_factor(corner, Q, LOW)
    side, across = _below(side, corner)
    opposite, second = _inverse_factor(opposite - across, B - Q, HIGH)
    side = -tl.dot(opposite, side, out_dtype=tl.float64)

    tl.store(sound + tl.program_id(0), (tl.minimum(first, second) > 0.0).to(tl.int32))
    corner = tl.dot(corner.T, corner, tl.dot(side.T, side), out_dtype=tl.float64)
    place = base + low[:, None] * width + Q + 1 + low[None, :]
    tl.store(place, corner, (low[:, None] <= low[None, :]) & (low < Q)[None, :])
    side = tl.dot(opposite.T, side, out_dtype=tl.float64)
    tl.store(base + high[:, None] * width + low[None, :], side, inside)
    opposite = tl.dot(opposite.T, opposite, out_dtype=tl.float64)
    place = base + high[:, None] * width + Q + high[None, :]
    tl.store(place, opposite, (high[None, :] <= high[:, None]) & (high < B - Q)[:, None])


@triton.jit
def _below(side, factor):
    """What a matrix's first half, with N1 = `factor`, does to the second.

    With A = (A1, A2^T; A2, A3) and W = A2 N1^T, N3 is that of the Schur complement A3 - W W^T, and
    the half of N between N1 and N3 is -N3 W N1. Returns W N1 and W W^T. Inverses of factors, which
    are as ill-conditioned as the root of A, lose no more digits than solving with factors does.
    """
    across = tl.dot(side, factor.T, out_dtype=tl.float64)
    return tl.dot(across, factor, out_dtype=tl.float64), tl.dot(across, across.T)


@triton.jit
def _inverse_factor(a, count: tl.constexpr, SIZE: tl.constexpr):
    """N with N a N^T = I, lower triangular, and a number > 0 if there is one; by halves again.

    `a` is the identity beyond `count`. A step of the elimination costs by the tile's size.
    """
    if SIZE == 16:
        return _eliminated(a, count, SIZE)
    else:
        HALF: tl.constexpr = SIZE // 2
        left, right = a.reshape(2, HALF, 2, HALF).permute(1, 3, 0, 2).split()
        corner, side = left.split()
        _, opposite = right.split()
        corner, first = _eliminated(corner, min(count, HALF), HALF)
        side, across = _below(side, corner)
        opposite, second = _eliminated(opposite - across, max(count - HALF, 0), HALF)
        side = -tl.dot(opposite, side, out_dtype=tl.float64)
        left, right = tl.join(corner, side), tl.join(tl.zeros_like(side), opposite)
        a = tl.join(left, right).permute(2, 0, 3, 1).reshape(SIZE, SIZE)
        return a, tl.minimum(first, second)


@triton.jit
def _eliminated(a, count: tl.constexpr, SIZE: tl.constexpr):
    """As `_inverse_factor`. Rows are eliminated downwards in [a | I]; what is eliminated makes room
    for what the identity has become."""
    place = tl.arange(0, SIZE)
    sound = 1.0
    for j in range(count):
        on_column = place[None, :] == j
        column = tl.sum(tl.where(on_column, a, 0.0), axis=1)
        line = tl.sum(tl.where(place[:, None] == j, a, 0.0), axis=0)
        pivot = tl.sum(tl.where(place == j, line, 0.0), axis=0)
        sound = tl.where((pivot > 0.0) & (pivot < float("inf")), sound, 0.0)  # nan is neither
        line = tl.where(place == j, 1.0, line) / pivot
        below = place > j
        a = tl.where(below[:, None] & on_column, 0.0, a)
        a -= tl.where(below, column, 0.0)[:, None] * line[None, :]
    diagonal = place[:, None] == place[None, :]
    scale = 1.0 / tl.sqrt(tl.sum(tl.where(diagonal, a, 0.0), axis=1))
    a = tl.where(place[:, None] > place[None, :], a, tl.where(diagonal, 1.0, 0.0))
    return a * scale[:, None], sound
