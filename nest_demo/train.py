"""Train a small language model from scratch: ``python -m nest_demo.train --help``."""

from __future__ import annotations

import ctypes
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nest_demo import training_data as data
from nest_demo.muon import Muon
from nest_engine.errors import ConfigError, NestError

_CONSOLE = Console(stderr=True)
_TOKENIZER_TEXTS = 30_000
_QUICK_EVALUATION = 64  # held-out documents
# Two Llama models with these in common have weights of the same shapes.
_SHAPE = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
)


@dataclass(frozen=True)
class Recipe:
    """A model's shape and how it is trained.

    The learning rate rises, holds, and falls to zero over the last ``decay`` of the tokens. Nothing
    before the fall depends on ``tokens``, so until then a run can still be extended. Windows are
    short until the last ``long_context`` of the tokens, where they fill the context: short ones
    cost less attention.

    Args:
        vocab_size: tokens of the vocabulary.
        hidden_size: width.
        intermediate_size: width of the feed-forward blocks.
        layers: number of layers.
        heads: number of attention heads.
        kv_heads: number of key-value heads.
        context: longest text in tokens.
        tokens: tokens to train on.
        batch_tokens: tokens of one update.
        micro_batch_tokens: tokens of one forward.
        short_window: tokens that the model reads at once for most of the training.
        matrix_lr: highest learning rate of the weight matrices (Muon).
        embedding_lr: highest learning rate of embeddings and norms (AdamW).
        weight_decay: of the weight matrices.
        warmup_steps: updates until the learning rate is full.
        decay: share of the tokens over which it falls.
        long_context: share of the tokens that are read in windows of the whole context.
        seed: of weights and data.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    tokens: int
    batch_tokens: int
    micro_batch_tokens: int
    context: int = 2048
    short_window: int = 512
    matrix_lr: float = 4e-3
    embedding_lr: float = 4e-3
    weight_decay: float = 0.02
    warmup_steps: int = 100
    decay: float = 0.3
    long_context: float = 0.1
    seed: int = 1

    def rate(self, step: int, tokens: int) -> float:
        """Return the share of the highest learning rate, after so many updates and tokens."""
        left = 1 - tokens / self.tokens
        return min(1.0, (step + 1) / self.warmup_steps, left / self.decay)

    def window(self, tokens: int) -> int:
        """Return how many tokens the model reads at once, after so many tokens."""
        return self.context if 1 - tokens / self.tokens <= self.long_context else self.short_window


RECIPES = {
    "nano": Recipe(
        vocab_size=8192,
        hidden_size=256,
        intermediate_size=768,
        layers=6,
        heads=4,
        kv_heads=2,
        tokens=40_000_000,
        batch_tokens=8_192,
        micro_batch_tokens=4_096,
    ),
    "small": Recipe(
        vocab_size=16_384,
        hidden_size=512,
        intermediate_size=1408,
        layers=8,
        heads=8,
        kv_heads=4,
        tokens=1_000_000_000,
        batch_tokens=131_072,
        micro_batch_tokens=32_768,
    ),
}


@dataclass
class Position:
    """How far a run has come: everything that resuming needs apart from the weights."""

    step: int = 0
    tokens: int = 0
    epoch: int = 0
    offset: int = 0


class Corpus:
    """Tokenized passes over the articles, each written to disk when it is first needed.

    Args:
        folder: where they are kept.
        articles: all articles; those held out are not trained on.
        questions: factual questions about them.
        recipe: gives the vocabulary's size and the seed.
        start_from: exported model whose tokenizer is used; else one is trained.
    """

    def __init__(
        self,
        folder: Path,
        articles: Sequence[data.Article],
        questions: Sequence[data.FactualQuestion],
        recipe: Recipe,
        start_from: Path | None = None,
    ) -> None:
        self._folder = folder
        self._seed = recipe.seed
        self._questions = questions
        self._articles = [article for article in articles if not data.is_held_out(article.title)]
        held_out = [article for article in articles if data.is_held_out(article.title)]
        self.held_out = data.held_out_documents(held_out)
        if not self._articles or not self.held_out:
            raise ConfigError(
                f"{len(articles)} articles are too few: one in a hundred is held out; give more"
            )
        self._shard: tuple[int, Any] = (-1, None)
        path = folder / "tokenizer.json"
        if not path.exists() and start_from:
            shutil.copyfile(start_from / "tokenizer.json", path)
        elif not path.exists():
            with _status("training the tokenizer"):
                texts = data.documents(
                    self._articles[:_TOKENIZER_TEXTS], questions, seed=recipe.seed
                )
                data.train_tokenizer(texts[:_TOKENIZER_TEXTS], recipe.vocab_size).save(str(path))
        self.tokenizer = Tokenizer.from_file(str(path))

    def batch(self, position: Position, tokens: int, window: int) -> tuple[Tensor, Tensor]:
        """Return the next inputs and targets, ``[rows, window]`` each; advance the position."""
        shard = self._open(position.epoch)
        if position.offset + tokens + 1 > len(shard):
            position.epoch, position.offset = position.epoch + 1, 0
            shard = self._open(position.epoch)
        if tokens + 1 > len(shard):
            raise ConfigError(
                f"a pass over the articles has {len(shard)} tokens, fewer than the {tokens} of one "
                f"batch"
            )
        run = torch.from_numpy(
            shard[position.offset : position.offset + tokens + 1].astype("int64")
        )
        position.offset += tokens
        return run[:-1].view(-1, window), run[1:].view(-1, window)

    def _open(self, epoch: int) -> Any:
        if self._shard[0] != epoch:
            path = self._folder / f"epoch-{epoch:04}.bin"
            if not path.exists():
                with _bar(f"writing pass {epoch + 1}") as (bar, task):
                    texts = data.documents(
                        self._articles, self._questions, seed=self._seed + 1000 * (epoch + 1)
                    )
                    data.write_shard(
                        path,
                        texts,
                        self.tokenizer,
                        lambda done, total: bar.update(task, completed=done, total=total),
                    )
            self._shard = (epoch, data.open_shard(path))
        return self._shard[1]


class Run:
    """A model in training, with all that must survive a kill.

    Args:
        recipe: shape and schedule.
        folder: holds ``checkpoint.pt`` and ``log.jsonl``; a run found there resumes from its
            checkpoint.
        device: where to compute.
        compiled: compile the forward, which needs a C++ compiler on a CPU.
        start_from: exported model whose weights a new run begins with; else they are random.

    Raises:
        ConfigError: if the folder holds a run of another recipe, or the model to start from has
            another shape.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        device: torch.device,
        *,
        compiled: bool = False,
        start_from: Path | None = None,
    ) -> None:
        self.recipe = recipe
        self.device = device
        self.position = Position()
        self._folder = folder
        torch.manual_seed(recipe.seed)
        self.model = LlamaForCausalLM(_model_config(recipe)).to(device)
        if device.type == "cpu":
            # Compiled, it is 1.5 times as fast there as the fused one.
            self.model.set_attn_implementation("eager")
        self._autocast = torch.autocast(
            device.type, torch.bfloat16, enabled=is_faster_in_bfloat16(device)
        )
        embedding = self.model.get_input_embeddings().weight
        matrices = [p for p in self.model.model.layers.parameters() if p.ndim == 2]
        rest = [embedding, *(p for p in self.model.parameters() if p.ndim == 1)]
        self._optimizers = (
            Muon(
                matrices,
                lr=recipe.matrix_lr,
                weight_decay=recipe.weight_decay,
                dtype=torch.bfloat16 if is_faster_in_bfloat16(device) else torch.float32,
            ),
            torch.optim.AdamW(rest, lr=recipe.embedding_lr, betas=(0.9, 0.95), weight_decay=0.0),
        )
        self._peaks = (recipe.matrix_lr, recipe.embedding_lr)
        self._loss = torch.compile(self._forward, dynamic=False) if compiled else self._forward
        if self._checkpoint.exists():
            self._resume()
        elif start_from:
            self._start_from(start_from)

    @property
    def finished(self) -> bool:
        """Whether all tokens of the recipe were trained on."""
        return self.position.tokens >= self.recipe.tokens

    def update(self, corpus: Corpus) -> float:
        """Make one update; return the loss in nats per token."""
        recipe, position = self.recipe, self.position
        rate = recipe.rate(position.step, position.tokens)
        inputs, targets = corpus.batch(
            position, recipe.batch_tokens, recipe.window(position.tokens)
        )
        rows = max(1, recipe.micro_batch_tokens // inputs.shape[1])
        total = torch.zeros((), device=self.device)
        for some, their in zip(torch.split(inputs, rows), torch.split(targets, rows), strict=True):
            with self._autocast:
                loss = self._loss(some.to(self.device), their.to(self.device)) * (
                    len(some) / len(inputs)
                )
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        for optimizer, peak in zip(self._optimizers, self._peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        position.step += 1
        position.tokens += inputs.numel()
        return float(total)

    def save(self) -> None:
        """Write the checkpoint: whole, or not at all."""
        state = {
            "recipe": asdict(self.recipe),
            "position": asdict(self.position),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }
        partial = self._checkpoint.with_suffix(".partial")
        with partial.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(self._checkpoint)

    def log(self, **values: Any) -> None:
        """Append a line to the log."""
        with self._log.open("a") as stream:
            stream.write(json.dumps(asdict(self.position) | values) + "\n")

    def curve(self) -> list[dict[str, Any]]:
        """Return the lines of the log."""
        return (
            [json.loads(line) for line in self._log.read_text().splitlines()]
            if self._log.exists()
            else []
        )

    @property
    def _checkpoint(self) -> Path:
        return self._folder / "checkpoint.pt"

    @property
    def _log(self) -> Path:
        return self._folder / "log.jsonl"

    def _resume(self) -> None:
        state = torch.load(self._checkpoint, map_location=self.device, weights_only=True)
        self.position = Position(**state["position"])
        _require_same(Recipe(**state["recipe"]), self.recipe, self.position, self._folder)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        # Whatever was logged after the checkpoint will happen again.
        kept = [line for line in self.curve() if line["step"] <= self.position.step]
        self._log.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def _start_from(self, folder: Path) -> None:
        try:
            trained = LlamaForCausalLM.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True
            )
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"--start-from {folder} holds no model that can be loaded: {error}"
            ) from error
        for name in _SHAPE:
            theirs, ours = getattr(trained.config, name), getattr(self.model.config, name)
            if theirs != ours:
                raise ConfigError(
                    f"--start-from {folder} holds a model with {name}={theirs}, this size has "
                    f"{ours}: take the --size that it was trained with"
                )
        self.model.load_state_dict(trained.state_dict())

    def _forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        logits = self.model(input_ids=inputs, use_cache=False).logits
        return functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


@torch.inference_mode()
def bits_per_byte(
    model: LlamaForCausalLM,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    progress: Any = lambda done, total: None,
) -> float:
    """Return the bits per byte of texts, each read by itself, up to the model's context.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        texts: what to read.
        progress: called with the number of texts read so far and their total.

    Returns:
        bits per byte of UTF-8.
    """
    nats, size = 0.0, 0
    end = tokenizer.token_to_id(data.END_OF_TEXT)
    for number, text in enumerate(texts, 1):
        encoding = tokenizer.encode(text)
        length = min(len(encoding.ids), model.config.max_position_embeddings - 1)
        if not length:
            continue
        ids = torch.tensor([[end, *encoding.ids[:length]]], device=model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=model.device.type == "cuda"):
            logits = model(input_ids=ids[:, :-1], use_cache=False).logits[0]
        nats += float(functional.cross_entropy(logits.float(), ids[0, 1:], reduction="sum"))
        size += len(text[: encoding.offsets[length - 1][1]].encode())
        progress(number, len(texts))
    return nats / math.log(2) / size


def export(
    model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path, record: Mapping[str, Any]
) -> None:
    """Write a model for transformers, in bfloat16, with chat template and training record."""
    half = LlamaForCausalLM(model.config)
    half.load_state_dict(model.state_dict())
    half.to(torch.bfloat16).save_pretrained(folder, max_shard_size="45MB")
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=data.END_OF_TEXT,
        eos_token=data.END_OF_TEXT,
        pad_token=data.END_OF_TEXT,
        model_max_length=model.config.max_position_embeddings,
    )
    wrapped.chat_template = data.CHAT_TEMPLATE
    wrapped.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n")


def train(
    articles: Annotated[
        list[Path], typer.Argument(help="JSONL files of articles, also .xz or .gz: title, text.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder of the run: data, checkpoint, log, and the model when it is done."
        ),
    ],
    questions: Annotated[
        Path | None, typer.Option(help="JSONL of questions: question, answers, gold_title.")
    ] = None,
    size: Annotated[str, typer.Option(help=f"Size of the model: {', '.join(RECIPES)}.")] = "nano",
    tokens: Annotated[
        int | None, typer.Option(help="Tokens to train on instead of the size's own number.")
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            help="Exported model to train on from, instead of random weights; take another --seed "
            "with it."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and data.")] = 1,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda if there is one.")] = None,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile/--no-compile", help="Compile the forward; a CPU needs a C++ compiler for it."
        ),
    ] = True,
    checkpoint_minutes: Annotated[
        float, typer.Option(help="Most minutes that a kill can lose.")
    ] = 5,
    stop_after_minutes: Annotated[
        float | None, typer.Option(help="Save and leave after so many minutes.")
    ] = None,
) -> None:
    """Train, evaluate and export. Run the same command again to go on after a kill."""
    if size not in RECIPES:
        raise ConfigError(f"--size {size!r} is not known: one of {', '.join(RECIPES)}")
    recipe = replace(RECIPES[size], seed=seed, tokens=tokens or RECIPES[size].tokens)
    _keep_freed_memory()
    out.mkdir(parents=True, exist_ok=True)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if compiled and place.type == "cpu" and not shutil.which(os.environ.get("CXX", "g++")):
        _CONSOLE.print(
            "no C++ compiler here, so the forward is not compiled: slower", style="yellow"
        )
        compiled = False
    run = Run(recipe, out, place, compiled=compiled, start_from=start_from)
    with _status("reading articles"):
        asked = data.read_questions(questions) if questions else []
        corpus = Corpus(out, data.read_articles(articles), asked, recipe, start_from)
    _train(run, corpus, checkpoint_minutes * 60, (stop_after_minutes or math.inf) * 60)
    if not run.finished:
        return
    with _bar("evaluating") as (bar, task):
        score = bits_per_byte(
            run.model.eval(),
            corpus.tokenizer,
            corpus.held_out,
            lambda d, t: bar.update(task, completed=d, total=t),
        )
    record = {
        "recipe": asdict(recipe),
        "parameters": run.model.num_parameters(),
        "held_out_articles": len(corpus.held_out),
        "held_out_bits_per_byte": round(score, 4),
        "curve": [line for line in run.curve() if "bits_per_byte" in line],
    }
    if start_from:
        record["started_from"] = json.loads((start_from / "training.json").read_text())
    export(run.model, corpus.tokenizer, out / "model", record)
    typer.echo(
        f"held-out bits per byte: {score:.3f} ({len(corpus.held_out)} articles); model in "
        f"{out / 'model'}"
    )


def _train(run: Run, corpus: Corpus, checkpoint_seconds: float, seconds: float) -> None:
    began = saved = time.monotonic()
    seen, previous = run.position.tokens, run.position.tokens
    evaluate_every = run.recipe.tokens // 20
    with _bar("training", run.recipe.tokens) as (bar, task):
        while not run.finished and time.monotonic() - began < seconds:
            loss = run.update(corpus)
            now, position = time.monotonic(), run.position
            speed = (position.tokens - seen) / (now - began)
            bar.update(
                task,
                completed=position.tokens,
                description=f"loss {loss:.3f}, {speed:,.0f} tokens/s",
            )
            values = {"loss": round(loss, 4), "window": run.recipe.window(position.tokens)}
            if position.tokens // evaluate_every > previous // evaluate_every:
                run.model.eval()
                values["bits_per_byte"] = round(
                    bits_per_byte(run.model, corpus.tokenizer, corpus.held_out[:_QUICK_EVALUATION]),
                    4,
                )
                run.model.train()
            previous = position.tokens
            run.log(**values)
            if "bits_per_byte" in values or (not _CONSOLE.is_terminal and position.step % 20 == 0):
                left = (run.recipe.tokens - position.tokens) / speed / 60
                shown = ", ".join(f"{name} {value}" for name, value in values.items())
                _CONSOLE.print(
                    f"{position.tokens / 1e6:.1f}M tokens: {shown}; {speed:,.0f} tokens/s, "
                    f"{left:.0f} min left",
                    highlight=False,
                )
            if now - saved > checkpoint_seconds:
                run.save()
                saved = now
    run.save()


def _model_config(recipe: Recipe) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=recipe.vocab_size,
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )


def _require_same(saved: Recipe, wanted: Recipe, position: Position, folder: Path) -> None:
    """Refuse to go on with another recipe.

    Only the number of tokens may change, until the learning rate or the window depends on it.
    """
    for name, value in asdict(saved).items():
        if name != "tokens" and value != getattr(wanted, name):
            raise ConfigError(
                f"{folder} holds a run with {name}={value}, now {getattr(wanted, name)} is asked "
                "for: take another --out, or the same settings"
            )
    shortest = min(saved.tokens, wanted.tokens)
    if saved.tokens != wanted.tokens and position.tokens > shortest * (
        1 - max(saved.decay, saved.long_context)
    ):
        raise ConfigError(
            f"{folder} holds a run for {saved.tokens} tokens that has come to {position.tokens}, "
            f"too far for its length to become {wanted.tokens}: take another --out, or the same "
            "--tokens"
        )


@cache
def is_faster_in_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies matrices faster in bfloat16, as GPUs and newer CPUs do."""
    if device.type != "cpu":
        return True

    def seconds(dtype: torch.dtype) -> float:
        matrix = torch.randn(512, 512).to(dtype)
        times = []
        for _ in range(5):
            began = time.perf_counter()
            matrix @ matrix
            times.append(time.perf_counter() - began)
        return min(times)

    return seconds(torch.bfloat16) < seconds(torch.float32)


def _keep_freed_memory() -> None:
    """Keep glibc from returning freed memory: allocating it again costs a fifth of the speed."""
    if sys.platform == "linux":
        try:
            mallopt = ctypes.CDLL(None).mallopt
        except AttributeError:  # another C library
            return
        mallopt(-4, 0)  # M_MMAP_MAX: large blocks come from the heap,
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: and stay there


@contextmanager
def _status(label: str) -> Iterator[None]:
    with _CONSOLE.status(label):
        yield


@contextmanager
def _bar(label: str, total: int | None = None) -> Iterator[tuple[Progress, Any]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=_CONSOLE, transient=True, disable=not _CONSOLE.is_terminal
    ) as bar:
        yield bar, bar.add_task(label, total=total)


def main() -> None:
    """Run the command; a failure is one line."""
    try:
        typer.run(train)
    except NestError as error:
        _CONSOLE.print(
            f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True
        )
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
