"""Tuning under its documented name: see :mod:`nest_engine.evaluation.tuning`."""

from nest_engine.evaluation.tuning import Sample, Tuning, make_samples, tune

__all__ = ["Sample", "Tuning", "make_samples", "tune"]
