"""GGUF files as models: converted once into a folder that transformers loads in seconds.

transformers reads a GGUF file anew each time, which takes tens of seconds for its tokenizer
alone. So weights (dequantized, in bfloat16), tokenizer, chat template and end-of-turn tokens
are written to the cache folder once, and loaded from there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from nest_engine._cache_folder import cache_folder, models_folder, write_whole
from nest_engine._optional import require
from nest_engine.errors import ModelLoadError

_MAGIC = b"GGUF"
_NOTES = "gguf.json"  # what there is to say of a conversion; written last, when all else is there
# Pre-tokenizers of the file format that split as transformers' conversion does.
_SAME_SPLITS = {"default", "gpt-2", "smollm"}


def converted(file: Path, sha256: str | None = None) -> Path:
    """Return the folder of a GGUF file's model, converting it if that has not been done.

    The folder is found by the digest of the file. It appears whole or not at all, whoever else
    converts the same file.

    Args:
        file: the GGUF file.
        sha256: digest that the file must have.

    Returns:
        a folder for ``from_pretrained``.

    Raises:
        MissingDependencyError: if the package ``gguf`` is not installed.
        ModelLoadError: if the file is not there, not GGUF, another one than the digest says, cut
            off, of an unknown architecture or without a tokenizer, or if the disk is full.
    """
    digest = _digest(file)
    if sha256 not in (None, digest):
        raise ModelLoadError(
            f"{file} has the SHA-256 {digest}, and {sha256} was expected: it is damaged or another "
            "version; install it again"
        )
    folder = models_folder() / f"{file.stem}-{digest[:16]}"
    notes = folder / _NOTES
    if not notes.exists():
        for package in ("gguf", "accelerate"):  # transformers needs both
            require(package, package, "gguf")
        try:
            with _alone(folder):
                if not notes.exists():  # nobody else has converted it meanwhile
                    with _whole_or_not_at_all(folder) as partial:
                        differences = _convert(file, partial)
                        about = {"file": file.name, "sha256": digest, "differences": differences}
                        (partial / _NOTES).write_text(json.dumps(about), encoding="utf-8")
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise ModelLoadError(
                f"the disk is full: {file} cannot be converted into {folder}; free some space, or "
                "let NEST_CACHE name a folder on another disk"
            ) from error
    for difference in json.loads(notes.read_text(encoding="utf-8"))["differences"]:
        warnings.warn(f"{file.name}: {difference}", stacklevel=2)
    return folder


def _digest(file: Path) -> str:
    """Return the SHA-256 of a file, read once for as long as it does not change."""
    note: Path | None = None
    try:
        status = file.stat()
        known = f"{file.resolve()} {status.st_size} {status.st_mtime_ns}"
        note = cache_folder() / "digests" / hashlib.sha256(known.encode()).hexdigest()
        if note.exists():
            return note.read_text(encoding="ascii")
    except OSError:  # of the file: said below; of the cache folder: no matter
        pass
    digest = _read_digest(file)
    if note is not None:
        with suppress(OSError):
            write_whole(note, digest)
    return digest


def _read_digest(file: Path) -> str:
    digest, start = hashlib.sha256(), b""
    try:
        with file.open("rb") as stream:
            while block := stream.read(2**20):
                start = start or block[: len(_MAGIC)]
                digest.update(block)
    except OSError as error:
        reason = error.strerror or error
        raise ModelLoadError(f"the model file {file} cannot be read: {reason}") from error
    if start != _MAGIC:
        raise ModelLoadError(f"{file} is not a GGUF file: it does not begin with 'GGUF'")
    return digest.hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process converts the same model."""
    lock = models_folder().parent / "locks" / folder.name
    lock.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(lock):
        yield


@contextmanager
def _whole_or_not_at_all(folder: Path) -> Iterator[Path]:
    """Give a folder to write to that takes its final name if all goes well, and else is removed."""
    partial = models_folder().parent / "partial" / folder.name
    shutil.rmtree(partial, ignore_errors=True)  # of a conversion that was killed
    partial.mkdir(parents=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        shutil.rmtree(folder, ignore_errors=True)  # somebody deleted a part of it
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _convert(file: Path, folder: Path) -> list[str]:
    """Write a file's model and tokenizer to a folder; return how the tokenizers differ."""
    place: dict[str, Any] = {"gguf_file": file.name}
    try:
        with _quiet():  # about how fast a packed model would be, which this one will not stay
            tokenizer = AutoTokenizer.from_pretrained(str(file.parent), **place)
            model = AutoModelForCausalLM.from_pretrained(
                str(file.parent), dtype=torch.bfloat16, **place
            )
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise _unreadable(file, error) from error
    except Exception as error:  # a damaged file fails in any way
        raise _unreadable(file, error) from error
    _as_unquantized(model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return _differences(file, tokenizer)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from logging warnings."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _unreadable(file: Path, error: Exception) -> ModelLoadError:
    return ModelLoadError(
        f"the GGUF file {file} cannot be loaded ({type(error).__name__}: {error}); it may be cut "
        "off, of an architecture that transformers does not read, or without a tokenizer"
    )


def _as_unquantized(model: PreTrainedModel) -> PreTrainedModel:
    """Return the same model without its memory of having been quantized, which forbids saving."""
    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = type(model)(config).to(torch.bfloat16)
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    return plain


def _differences(file: Path, tokenizer: Any) -> list[str]:
    """Return in which ways transformers reads text otherwise than the file's own tokenizer."""
    from gguf import GGUFReader

    fields = GGUFReader(str(file)).fields
    split = fields.get("tokenizer.ggml.pre")
    name = str(split.contents()) if split else "default"
    differences = []
    if name not in _SAME_SPLITS:
        differences.append(
            f"the file splits text as {name!r} before tokenizing, which transformers does not "
            "know: text may become other tokens than in training"
        )
    num_tokens = len(fields["tokenizer.ggml.tokens"].data)
    if num_tokens != len(tokenizer):
        differences.append(
            f"the file has {num_tokens} tokens, and transformers makes {len(tokenizer)} of them"
        )
    return differences
