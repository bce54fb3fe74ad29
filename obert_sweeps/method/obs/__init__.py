"""The engine of second-order (OBS) pruning: inverse Fisher, costs, updates, in the memory there is.

`obert.py` is the method; one step of it is `step.ObsStep`, in the rounds that `rounds` has planned.
`fisher` holds sums and inverse, by halves (`symmetric`), in float32 where a bound allows it
(`rounding`); `surgery` is what the algebra says of an inverse; `scratch` is where inverses wait.
"""
