"""Tuning under its documented name: see :mod:`nest_engine.evaluation.tuning`."""

from nest_engine.evaluation.tuning import Tuning, make_questions, tune

__all__ = ["Tuning", "make_questions", "tune"]
