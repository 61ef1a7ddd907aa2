"""Check what callers pass, with errors that name the value and what was expected."""

from __future__ import annotations

from nest_engine.errors import ConfigError, InputError


def require_count(name: str, value: object, least: int = 1) -> None:
    """Raise ``ConfigError`` unless ``value`` is a whole number of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(
            f"{name}={value!r} is not valid: expected a whole number of at least {least}"
        )


def require_text(what: str, text: object) -> None:
    """Raise ``InputError`` unless ``text`` is a string that UTF-8 can encode."""
    if not isinstance(text, str):
        raise InputError(f"{what} must be str, got {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} holds a lone surrogate {text[error.start]!r} at offset {error.start}, which "
            f"is not text; "
            "decode the source with errors='replace' or drop the character"
        ) from error
