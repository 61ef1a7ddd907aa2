"""Language models that quote their sources exactly, and answer faster for it.

An implementation of Nearest Neighbor Speculative Decoding (NEST, arXiv 2405.19325).
"""

from typing import TYPE_CHECKING, Any

from nest_engine._version import __version__
from nest_engine.citing import CitationStream, CitedAnswer, Citer, cite
from nest_engine.config import METHODS, NestConfig
from nest_engine.datastore.key_cache import KeyCache
from nest_engine.errors import (
    ConfigError,
    ContextOverflowError,
    CorruptIndexError,
    DecodingError,
    IndexMismatchError,
    InputError,
    MissingDependencyError,
    ModelLoadError,
    NestError,
    PassageIndexError,
    QueueFullError,
    RetrievalError,
    SchedulerClosedError,
    UnsupportedModelError,
)
from nest_engine.interfaces import LanguageModel, PassageRetriever
from nest_engine.output import NestChunk, NestOutput
from nest_engine.records import Citation, DecodeStats, Passage, PhaseSeconds, Provenance, Score

if TYPE_CHECKING:
    from nest_engine.datastore.key_store import KeyStore
    from nest_engine.engine import NestEngine
    from nest_engine.serving.scheduler import PendingAnswer, Scheduler

__all__ = [
    "METHODS",
    "Citation",
    "CitationStream",
    "CitedAnswer",
    "Citer",
    "ConfigError",
    "ContextOverflowError",
    "CorruptIndexError",
    "DecodeStats",
    "DecodingError",
    "IndexMismatchError",
    "InputError",
    "KeyCache",
    "KeyStore",
    "LanguageModel",
    "MissingDependencyError",
    "ModelLoadError",
    "NestChunk",
    "NestConfig",
    "NestEngine",
    "NestError",
    "NestOutput",
    "Passage",
    "PassageIndexError",
    "PassageRetriever",
    "PendingAnswer",
    "PhaseSeconds",
    "Provenance",
    "QueueFullError",
    "RetrievalError",
    "Scheduler",
    "SchedulerClosedError",
    "Score",
    "UnsupportedModelError",
    "__version__",
    "cite",
]


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first asked for: plain records and help do not."""
    if name == "NestEngine":
        from nest_engine.engine import NestEngine

        return NestEngine
    if name == "KeyStore":
        from nest_engine.datastore.key_store import KeyStore

        return KeyStore
    if name in ("PendingAnswer", "Scheduler"):
        from nest_engine.serving import scheduler

        return getattr(scheduler, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
