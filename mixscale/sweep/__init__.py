"""Expands an experiment into runs, claims and resumes them, and trains them on this machine."""

from mixscale.sweep.collect import collect
from mixscale.sweep.local import train_all, workers_that_pay
from mixscale.sweep.plan import Planned, largest, plan, plan_verification

__all__ = ["Planned", "collect", "largest", "plan", "plan_verification", "train_all", "workers_that_pay"]
