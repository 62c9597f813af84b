"""Expands an experiment into runs, and has them claimed, trained, resumed and collected, here or on a cluster.

Nothing is imported here: who only asks how far a folder is (`standing`, `status`) must not wait for JAX.
"""
