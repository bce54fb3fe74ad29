"""Pruning methods: one file each, made from the `_target_` of its leaf in conf/method."""
