"""BERT (Devlin et al. 2019), any size."""

from __future__ import annotations

from typing import Any

from .base import Encoder

MATRICES = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)


class Bert(Encoder):
    """BERT; prunable are six matrices a layer (sparseml's oBERT recipes): query, key, value, the
    attention's output, and the feed-forward network's two. BERT-base 84,934,656 weights,
    BERT-large 301,989,888.
    """

    model_type = "bert"

    def _classes(self) -> tuple[Any, dict[str, Any]]:
        # The module itself, not transformers' lazy attributes: nothing else is loaded with it.
        from transformers.models.bert import modeling_bert as bert
        from transformers.models.bert.configuration_bert import BertConfig

        return BertConfig, {
            "classification": bert.BertForSequenceClassification,
            "regression": bert.BertForSequenceClassification,
            "span": bert.BertForQuestionAnswering,
            "mlm": bert.BertForMaskedLM,
        }

    def _prunable_in_layer(self, config: Any) -> list[str]:
        return list(MATRICES)
