"""The model card of an exported model: what it is, how it was made, what it scores and weighs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jinja2

# Licences of the data sets as their owners state them: MNLI in its paper, CoLA in its README, MRPC
# by the licence in its archive; the others by the hub's cards.
DATA_LICENCES = {
    "squad": ("rajpurkar/squad", "CC BY-SA 4.0", "cc-by-sa-4.0"),
    "qnli": ("nyu-mll/glue", "CC BY-SA 4.0 (made from SQuAD)", "cc-by-sa-4.0"),
    "stsb": ("nyu-mll/glue", "CC BY-SA 4.0", "cc-by-sa-4.0"),
    "mnli": (
        "nyu-mll/glue",
        "mostly the Open American National Corpus's, permissive; its fiction CC BY 3.0,"
        " CC BY-SA 3.0 or public domain in the United States",
        "other",
    ),
    "qqp": ("nyu-mll/glue", "non-commercial use (Quora's terms)", "other"),
    "sst2": ("nyu-mll/glue", "research use; none stated by its authors", "other"),
    "mrpc": ("nyu-mll/glue", "Microsoft Research Shared Source: non-commercial use", "other"),
    "cola": (
        "nyu-mll/glue",
        "none: excerpts of published works, whose copyright remains with their authors or"
        " publishers; research in the United States is expected to be fair use",
        "other",
    ),
}
GENERATED = "sentences that this project generates: no licence but its own"
UNKNOWN = (None, "not known here: ask the data's owner", "other")


@dataclass
class Facts:
    """What a card tells. `sparsity` by layer, 0..1; `sizes` as sizes.Sizes and ratios give them."""

    name: str
    task: str
    base_model: str
    metrics: Mapping[str, float | None]
    sparsity: Mapping[str, float]
    quantized: bool
    recipe: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    ratios: Mapping[str, float] = field(default_factory=dict)
    licence: str | None = None  # of the data, where they are not the task's known ones


def model_card(facts: Facts) -> str:
    """README.md of the export, with the header that the hub reads."""
    dataset, licence, tag = DATA_LICENCES.get(facts.task, UNKNOWN)
    layers = list(facts.sparsity.items())
    return _TEMPLATE.render(
        facts=facts,
        dataset=None if facts.licence else dataset,
        licence=facts.licence or licence,
        tag="other" if facts.licence else tag,
        layers=layers,
        recipe=json.dumps(facts.recipe, indent=2, sort_keys=True, default=str),
        pruned=any(share > 0 for _, share in layers),
    )


_TEMPLATE = jinja2.Environment(
    trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False
).from_string(
    """\
---
license: {{ tag }}
language: en
library_name: transformers
base_model: {{ facts.base_model | tojson }}
{% if dataset %}
datasets:
- {{ dataset }}
{% endif %}
tags:
- obert-sweeps
- {{ facts.task }}
{% if pruned %}
- pruned
{% endif %}
{% if facts.quantized %}
- int8
{% endif %}
---
# {{ facts.name }}

{{ facts.base_model }} on {{ facts.task }}\
{{ ", pruned" if pruned else ", dense" }}{{ ", INT8" if facts.quantized else ", FP32" }}. \
`from_pretrained` loads the folder as a model in float32\
{{ "; its weights are what INT8 holds, its activations are not quantised" if facts.quantized }}.
{% if facts.quantized %}
`model.qdq.onnx` (QuantizeLinear and DequantizeLinear, for ONNX Runtime and OpenVINO) and
`model.integer.onnx` (MatMulInteger, for DeepSparse) compute in integers.
{% else %}
`model.onnx` is the same model.
{% endif %}

## Metrics
| metric | value |
|---|---|
{% for metric, value in facts.metrics.items() %}
| {{ metric }} | {{ "undefined" if value is none else "%.2f" % value }} |
{% endfor %}

{% if facts.sizes %}
## Sizes
| file | bytes | after gzip -6 | after zstd -3 |
|---|---|---|---|
{% for file, size in facts.sizes.items() %}
| {{ file }} | {{ size.raw }} | {{ size.gzip }} | {{ size.zstd }} |
{% endfor %}

{% if facts.ratios %}
{{ "%.1f" % facts.ratios.document }}x by the document's counting (dense raw by compressed gzip), \
{{ "%.1f" % facts.ratios.gzip }}x gzip by gzip, {{ "%.1f" % facts.ratios.raw }}x raw by raw.

{% endif %}
{% endif %}
## Sparsity by layer
{% if pruned %}
| layer | zeros |
|---|---|
{% for layer, share in layers %}
| {{ layer }} | {{ "%.2f" % (100 * share) }} % |
{% endfor %}
{% else %}
Nothing was pruned.
{% endif %}

## Licence of the data
{{ facts.task }}: {{ licence }}. The weights were made from these data; mind their terms.

## Recipe
```json
{{ recipe }}
```
""",
)
