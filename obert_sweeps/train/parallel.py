"""What the workers of a stage exchange while they train together, each on its share of the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ..schema import StageError
from ..task.heads import Logits
from ..worker_group import WorkerGroup

_BUCKET = 2**24  # numbers in one exchange, 64 MB: so much memory it takes beside the gradients


class GradientSum:
    """Adds up the gradients that each worker's share of a batch has given."""

    def __init__(self, parameters: Sequence[nn.Parameter], group: WorkerGroup) -> None:
        self.parameters = parameters
        self.group = group

    def __call__(self, loss: Tensor) -> Tensor:
        """Give every parameter the sum of the workers' gradients; the sum of `loss`, a scalar.

        A parameter without a gradient at any worker keeps none, and is then not decayed either.
        """
        have = torch.tensor([float(p.grad is not None) for p in self.parameters])
        told = self.group.sum(torch.cat([have.to(loss.device), loss.detach().reshape(1)]))
        anywhere = told[:-1].tolist()
        for bucket in _buckets([p for p, n in zip(self.parameters, anywhere, strict=True) if n]):
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
            whole = self.group.sum(torch.cat([grad.flatten() for grad in grads]))
            for p, part in zip(bucket, whole.split([p.numel() for p in bucket]), strict=True):
                p.grad = part.view_as(p)
        return told[-1]


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    bucket: list[nn.Parameter] = []
    size = 0
    for parameter in parameters:
        if bucket and size + parameter.numel() > _BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.numel()
    if bucket:
        yield bucket


def check_equal(model: nn.Module, group: WorkerGroup) -> None:
    """StageError at a worker whose weights are not, bit by bit, those of worker 0.

    All take the same steps, so they differ only where the machines are of several kinds, or by a
    fault of the program; and then no result is to be trusted.
    """
    if group.size == 1:
        return
    with torch.no_grad():
        ours = torch.stack([p.double().sum() for p in model.parameters()])
    theirs = group.send_all(ours.clone())
    if not torch.equal(ours, theirs):
        raise StageError(
            f"worker {group.rank} of {group.size} has come to other weights than worker 0. The"
            " workers of a stage must be machines of one kind; or use cluster.workers_per_stage=1"
        )


def share_rows(
    found: Sequence[Logits | None], rows: Sequence[Sequence[int]], group: WorkerGroup
) -> list[Logits]:
    """What each worker found for its rows, `rows[rank]`, made known to all: by row.

    The tensors of a row are float32 on the CPU, of one number of dimensions and any size.
    """
    own = [(row, found[row] or ()) for row in rows[group.rank]]
    first = own[0][1] if own else ()
    form = torch.tensor([len(first), first[0].dim() if first else 0])
    heads, dims = group.send_all(form).tolist()  # worker 0 has rows if any has
    sizes = torch.zeros(len(found), heads, dims, dtype=torch.long)
    for row, tensors in own:
        sizes[row] = torch.tensor([tensor.shape for tensor in tensors])
    group.sum(sizes)
    numbers = sizes.prod(dim=2)
    flat = torch.cat([torch.empty(0), *(t.flatten() for _, tensors in own for t in tensors)])
    whole = group.gather(flat, [int(numbers[list(share)].sum()) for share in rows])
    order = [row for share in rows for row in share]
    pieces = iter(whole.split(numbers[order].flatten().tolist()))
    by_row = {
        row: tuple(next(pieces).view(shape) for shape in sizes[row].tolist()) for row in order
    }
    return [by_row[row] for row in range(len(found))]
