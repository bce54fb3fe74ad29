"""MobileBERT (Sun et al. 2020)."""

from __future__ import annotations

from typing import Any

from .base import Encoder
from .bert import MATRICES


class MobileBert(Encoder):
    """MobileBERT; prunable are BERT's six matrices a layer, the three of the bottlenecks and two of
    each further feed-forward network, as in NeuralMagic's MLPerf v2.1 recipe for MobileBERT:
    835,584 weights a layer, 20,054,016 in all 24. The embedding transformation is not pruned.
    """

    model_type = "mobilebert"

    def _classes(self) -> tuple[Any, dict[str, Any]]:
        from transformers.models.mobilebert import modeling_mobilebert as mobilebert
        from transformers.models.mobilebert.configuration_mobilebert import MobileBertConfig

        return MobileBertConfig, {
            "classification": mobilebert.MobileBertForSequenceClassification,
            "regression": mobilebert.MobileBertForSequenceClassification,
            "span": mobilebert.MobileBertForQuestionAnswering,
            "mlm": mobilebert.MobileBertForMaskedLM,
        }

    def _prunable_in_layer(self, config: Any) -> list[str]:
        names = list(MATRICES)
        if config.use_bottleneck:
            names += ["output.bottleneck.dense", "bottleneck.input.dense"]
            if config.key_query_shared_bottleneck:
                names.append("bottleneck.attention.dense")
        for i in range(config.num_feedforward_networks - 1):
            names += [f"ffn.{i}.intermediate.dense", f"ffn.{i}.output.dense"]
        return names
