"""Products of packed tokens against a sum over single tokens in float64."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from obert_sweeps.train.grouped import GroupedGradients, Use

WIDTHS = {"wide": (5, 3), "narrow": (2, 3), "square": (3, 3)}  # out, in


@given(data=st.data(), count=st.integers(1, 4), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_each_mini_batch_has_the_sum_over_its_own_tokens(
    data: st.DataObject, count: int, seed: int
) -> None:
    """Rows in any passes, layers used any number of times in each; what padding holds is unseen."""
    owners = sorted(data.draw(st.lists(st.integers(0, count - 1), max_size=8), label="owners"))
    lengths = [data.draw(st.integers(1, 4)) for _ in owners]
    passes = [data.draw(st.integers(0, 2)) for _ in owners]
    random = torch.Generator().manual_seed(seed)
    grouped = GroupedGradients(owners, lengths, count)
    expected = {name: torch.zeros(count, *shape).double() for name, shape in WIDTHS.items()}
    for which in sorted(set(passes)):
        rows = [row for row, place in enumerate(passes) if place == which]
        width = max(lengths[row] for row in rows) + data.draw(st.integers(0, 2))
        uses: dict[str, list[Use]] = {name: [] for name in WIDTHS}
        for name, (out, into) in WIDTHS.items():
            for _ in range(data.draw(st.integers(0, 2), label=f"uses of {name}")):
                x = torch.randn(len(rows), width, into, generator=random)
                g = torch.randn(len(rows), width, out, generator=random)
                uses[name].append(Use(x, g))
                for place, row in enumerate(rows):
                    for token in range(lengths[row]):
                        product = torch.outer(g[place, token].double(), x[place, token].double())
                        expected[name][owners[row]] += product
                    x[place, lengths[row] :] = torch.nan
        grouped.add(rows, width, uses)
    for name, shape in WIDTHS.items():
        found = grouped.take(name, torch.empty(shape))
        torch.testing.assert_close(found.double(), expected[name], rtol=1e-5, atol=1e-5)
