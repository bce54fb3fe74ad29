"""From the store to a judgement: measured beside published, verdicts, claims, audit, cost.

`build` makes the report as plain data, from `facts` (what the plan and the store say) and
`judgement` (what it means). `pages` show it, in `words` and `pictures`. No imports here.
"""
