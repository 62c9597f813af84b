"""Plans the runs of an experiment, trains them on this machine or a cluster, and collects what they measured.

Imports nothing here, so that `status` and `collect` do not load JAX.
"""
