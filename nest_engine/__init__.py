"""Language models that quote their sources exactly, and answer faster for it.

An implementation of Nearest Neighbor Speculative Decoding (NEST, arXiv 2405.19325).
"""

from nest_engine.config import METHODS, NestConfig
from nest_engine.engine import NestEngine
from nest_engine.errors import (
    ConfigError,
    ContextOverflowError,
    CorruptIndexError,
    IndexMismatchError,
    InputError,
    MissingDependencyError,
    NestError,
    PassageIndexError,
    RetrievalError,
    UnsupportedModelError,
)
from nest_engine.interfaces import LanguageModel, PassageRetriever
from nest_engine.key_cache import KeyCache
from nest_engine.types import (
    Citation,
    DecodeStats,
    NestChunk,
    NestOutput,
    Passage,
    PhaseSeconds,
    Provenance,
    Score,
)

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "Citation",
    "ConfigError",
    "ContextOverflowError",
    "CorruptIndexError",
    "DecodeStats",
    "IndexMismatchError",
    "InputError",
    "KeyCache",
    "LanguageModel",
    "MissingDependencyError",
    "NestChunk",
    "NestConfig",
    "NestEngine",
    "NestError",
    "NestOutput",
    "Passage",
    "PassageIndexError",
    "PassageRetriever",
    "PhaseSeconds",
    "Provenance",
    "RetrievalError",
    "Score",
    "UnsupportedModelError",
    "__version__",
]
