"""Exceptions of the engine: one tree in which every leaf is also a built-in type.

NestError
├── ConfigError(ValueError)              a setting is unknown, out of range or contradicts another
├── InputError(ValueError)               a prompt, passage or document cannot be used as given
│   └── ContextOverflowError             prompt and passages exceed the model's context
├── UnsupportedModelError(TypeError)     the architecture or tokenizer cannot do what decoding needs
├── ModelLoadError(OSError)              a model or tokenizer cannot be loaded
├── PassageIndexError(RuntimeError)      an on-disk passage index cannot be used
│   ├── CorruptIndexError                truncated, altered or incomplete files
│   └── IndexMismatchError               built for another embedding model, corpus or format
├── RetrievalError(RuntimeError)         first-stage search failed
├── DecodingError(RuntimeError)          the model failed while answers were decoded together
├── QueueFullError(RuntimeError)         too many requests are waiting for the scheduler
├── SchedulerClosedError(RuntimeError)   the scheduler accepts no more requests
└── MissingDependencyError(ImportError)  an optional package is missing; names the install command
"""

from __future__ import annotations


class NestError(Exception):
    """Base class of every error raised on purpose by this project."""


class ConfigError(NestError, ValueError):
    """A setting is unknown, out of range, or contradicts another one."""


class InputError(NestError, ValueError):
    """A prompt, passage or document cannot be used as given."""


class ContextOverflowError(InputError):
    """The prompt does not fit in the model's context."""

    @classmethod
    def no_room(cls, num_tokens: int, context: int) -> ContextOverflowError:
        """Return the error for a prompt of ``num_tokens`` that fills the model's context.

        Args:
            num_tokens: tokens of the prompt.
            context: tokens that the context holds.
        """
        return cls(
            f"the prompt has {num_tokens} tokens and the model's context holds {context}, which "
            f"leaves no room for an "
            "answer; shorten the prompt or place fewer passages in it"
        )


class UnsupportedModelError(NestError, TypeError):
    """The model's architecture or tokenizer cannot do what decoding needs."""


class ModelLoadError(NestError, OSError):
    """A model or its tokenizer cannot be loaded."""


class PassageIndexError(NestError, RuntimeError):
    """An on-disk passage index cannot be used."""


class CorruptIndexError(PassageIndexError):
    """Files of an on-disk index are missing, truncated or altered."""


class IndexMismatchError(PassageIndexError):
    """An on-disk index was built for another model, corpus or format version."""


class RetrievalError(NestError, RuntimeError):
    """First-stage passage search failed."""


class DecodingError(NestError, RuntimeError):
    """The model failed while answers were decoded together."""


class QueueFullError(NestError, RuntimeError):
    """Too many requests are waiting for the scheduler."""


class SchedulerClosedError(NestError, RuntimeError):
    """The scheduler accepts no more requests."""


class MissingDependencyError(NestError, ImportError):
    """An optional dependency is not installed.

    Args:
        package: name of the missing distribution on PyPI.
        extra: the extra of ``nest-engine`` that includes it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'nest-engine[{extra}]'")
        self.package = package
        self.extra = extra

    def __reduce__(self) -> tuple[type[MissingDependencyError], tuple[str, str]]:
        return type(self), (self.package, self.extra)
