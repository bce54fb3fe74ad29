"""Masks: which weights are pruned, held exactly at zero."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..schema import StageError


class Masks:
    """Keep-masks of the prunable layers: bool (out, in) by layer name, True = kept.

    `keep` None means that everything is kept. Masks follow their weights from device to device.
    Making masks or replacing them does not touch the weights; `apply` does.
    """

    def __init__(
        self, layers: dict[str, nn.Linear], keep: Mapping[str, Tensor] | None = None
    ) -> None:
        self.layers = layers
        self._keep: dict[str, Tensor] = {}
        self._factors: list[Tensor] = []
        self._pruned = 0
        if keep is None:
            keep = {
                name: torch.ones_like(layer.weight, dtype=torch.bool)
                for name, layer in layers.items()
            }
        self.replace(keep)

    @classmethod
    def from_zeros(cls, layers: dict[str, nn.Linear]) -> Masks:
        """Masks of the weights as they are: what is zero is pruned."""
        return cls(layers, {name: layer.weight.detach() != 0 for name, layer in layers.items()})

    @property
    def keep(self) -> dict[str, Tensor]:
        """The masks by layer name, on the weights' devices. Not to be written to."""
        for name, layer in self.layers.items():
            if self._keep[name].device != layer.weight.device:
                self._keep[name] = self._keep[name].to(layer.weight.device)
        return dict(self._keep)

    @property
    def is_dense(self) -> bool:
        """Whether nothing is pruned."""
        return self._pruned == 0

    def replace(self, keep: Mapping[str, Tensor]) -> None:
        """Take new masks. StageError if a layer is missing, unknown or of another shape."""
        if set(keep) != set(self.layers):
            odd = sorted(set(keep) ^ set(self.layers))
            raise StageError(
                f"masks and prunable layers differ: {', '.join(odd[:4])}"
                f"{' …' if len(odd) > 4 else ''}. The masks come from another model; use those of"
                " a stage of the same model and the same keep_layers."
            )
        checked: dict[str, Tensor] = {}
        for name, layer in self.layers.items():
            mask = keep[name]
            if mask.shape != layer.weight.shape or mask.dtype != torch.bool:
                raise StageError(
                    f"the mask of layer {name} is {mask.dtype} {tuple(mask.shape)}; its weight"
                    f" needs bool {tuple(layer.weight.shape)}. The masks come from another model."
                )
            checked[name] = mask.detach().to(layer.weight.device)
        self._keep = checked
        self._factors = []
        self._pruned = sum(m.numel() - int(torch.count_nonzero(m)) for m in checked.values())

    @torch.no_grad()
    def apply(self) -> None:
        """Set pruned weights to zero, in place: one fused product over all layers."""
        if not self.is_dense:
            torch._foreach_mul_([layer.weight for layer in self.layers.values()], self.factors())

    @torch.no_grad()
    def apply_to_gradients(self) -> None:
        """Set the gradients of pruned weights to zero, in place, where there are gradients."""
        if self.is_dense:
            return
        weights = [layer.weight for layer in self.layers.values()]
        pairs = zip(weights, self.factors(), strict=True)
        found = [(weight.grad, factor) for weight, factor in pairs if weight.grad is not None]
        if found:
            torch._foreach_mul_([grad for grad, _ in found], [factor for _, factor in found])

    def factors(self) -> list[Tensor]:
        """The masks as 1 and 0 in the weights' type, layer by layer.

        They are held: a product of float by bool converts the whole mask again each time and has
        no fused kernel.
        """
        weights = [layer.weight for layer in self.layers.values()]
        if not self._factors or any(
            f.device != w.device or f.dtype != w.dtype
            for f, w in zip(self._factors, weights, strict=True)
        ):
            keep = self.keep
            self._factors = [
                keep[name].to(layer.weight.dtype) for name, layer in self.layers.items()
            ]
        return self._factors

    def sparsity(self) -> float:
        """Share of the prunable weights that is pruned, 0..1."""
        total = sum(mask.numel() for mask in self._keep.values())
        return self._pruned / total if total else 0.0

    def by_layer(self) -> dict[str, float]:
        """Share of each layer's weight that is pruned, 0..1."""
        return {
            name: 1.0 - int(torch.count_nonzero(mask)) / mask.numel()
            for name, mask in self._keep.items()
        }

    def structure(self) -> dict[str, dict[str, float]]:
        """Of each layer: weights, outputs (rows) and inputs (columns) that nothing is left of,
        blocks of four along the inputs of which nothing is left, and the share of such blocks that
        a 2:4 kernel could take, having lost two or more.
        """
        found = {}
        for name, mask in self._keep.items():
            blocks = mask[:, : mask.shape[1] // 4 * 4].unflatten(1, (-1, 4)).sum(-1)
            found[name] = {
                "weights": mask.numel(),
                "empty_outputs": int((~mask.any(1)).sum()),
                "empty_inputs": int((~mask.any(0)).sum()),
                "empty_blocks_of_4": int((blocks == 0).sum()),
                "share_2of4": round(float((blocks <= 2).float().mean()), 4),
            }
        return found

    @torch.no_grad()
    def check(self) -> None:
        """Raise StageError, naming the layer, if a pruned weight is not zero."""
        keep = self.keep
        for name, layer in self.layers.items():
            wrong = int(torch.count_nonzero(layer.weight.masked_fill(keep[name], 0.0)))
            if wrong:
                raise StageError(
                    f"{wrong} pruned weights of layer {name} are not zero: something wrote to them"
                    " after the masks were applied. Run the stage again from its parent; if it"
                    " happens again, the method or the model changes weights on its own."
                )

    def state_dict(self) -> dict[str, Tensor]:
        """Bool tensors by layer name, fit for safetensors."""
        return {name: mask.contiguous() for name, mask in self._keep.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state_dict` gave. Does not touch the weights."""
        self.replace(state)
