"""From the store to a judgement: measured beside published, verdicts, claims, audit, cost.

`build` makes the report as plain data, `traces` what its plots need beside, `files` writes it,
`terminal` is what the screen shows. No imports here.
"""
