"""The 7M model of nest-engine's demonstrations, which finds it where this package is installed."""

from pathlib import Path

PATH = Path(__file__).parent / "model"
