"""A small page on what pruning left of each matrix, for W&B's media."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

_STYLE = (
    "body{font:13px sans-serif}table{border-collapse:collapse}"
    "td,th{padding:1px 8px;text-align:right}td:first-child,th:first-child{text-align:left}"
    "meter{width:160px;vertical-align:middle}"
)


def mask_page(sparsity: Mapping[str, Any]) -> str:
    """`sparsity` of a result.json: overall, layers {matrix: share} and, if there, structure."""
    structure = sparsity.get("structure") or {}
    names = list(dict.fromkeys(name for of in structure.values() for name in of))
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in names)
    rows = []
    for matrix, share in sparsity["layers"].items():
        told = structure.get(matrix) or {}
        cells = "".join(f"<td>{told[name]}</td>" if name in told else "<td></td>" for name in names)
        bar = f'<meter min="0" max="1" value="{share:.6f}"></meter> {100 * share:.2f} %'
        rows.append(f"<tr><td>{escape(matrix)}</td><td>{bar}</td>{cells}</tr>")
    return (
        f"<style>{_STYLE}</style><p>{100 * sparsity['overall']:.2f} % of the prunable weights are"
        f" zero.</p><table><tr><th>matrix</th><th>zero</th>{head}</tr>{''.join(rows)}</table>"
    )
