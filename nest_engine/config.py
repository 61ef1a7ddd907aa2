"""The settings of one request: small, immutable, validated as a whole."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from nest_engine.errors import ConfigError

Method = Literal["lm", "knn-lm", "nest", "ra", "ra-nest", "lossless"]
METHODS: tuple[Method, ...] = get_args(Method)

# Settings whose default depends on the method. The general ones are ours, measured on a real model:
# whole sentences; elsewhere what the model finds plausible. `knn-lm` is the paper's baseline and
# has no spans: one token at a time, each attributed to its nearest neighbour. `lossless` cannot
# harm the text, so it drafts wherever a passage agrees with the model, as much as pays off, and may
# copy a sentence as often as the model repeats it.
_GENERAL: dict[str, Any] = {
    "alpha": 0.5,
    "tau": 0.1,
    "knn_temperature": 0.3,
    "delta": 0.8,
    "gamma": 0.05,
    "max_draft_tokens": 64,
    "adaptive_draft": None,
    "fixed_lambda": None,
    "mask_copied": True,
    "plausibility": 0.02,
    "by_sentence": True,
    "own_words": 0.1,
}
_WORD_BY_WORD: dict[str, Any] = {"plausibility": 0.0, "by_sentence": False}
_OF_METHOD: dict[str, dict[str, Any]] = {
    "lm": _WORD_BY_WORD,
    "ra": _WORD_BY_WORD,
    "knn-lm": {
        "fixed_lambda": 0.7,
        "knn_temperature": 1.0,
        "max_draft_tokens": 1,
        "delta": 1.0,
        "mask_copied": False,
        **_WORD_BY_WORD,
    },
    "lossless": {"delta": 1.0, "mask_copied": False, "adaptive_draft": True, **_WORD_BY_WORD},
}
_PAPER: dict[str, Any] = {
    "alpha": 0.3,
    "knn_temperature": 1.0,
    "delta": 0.5,
    "draft_after_rejection": False,
    **_WORD_BY_WORD,
}
_BY_METHOD: Any = None  # stands for "the method's own default" until the configuration is complete


@dataclass(frozen=True, kw_only=True)
class NestConfig:
    """How to decode one request.

    The defaults are ours, measured on a real instruction-tuned model; :meth:`paper_7b` has the
    paper's. Those of ``alpha``, ``tau``, ``knn_temperature``, ``delta``, ``gamma``,
    ``max_draft_tokens``, ``adaptive_draft``, ``fixed_lambda``, ``mask_copied``, ``plausibility``,
    ``by_sentence`` and ``own_words`` are the method's own.

    Args:
        method: ``lm`` the model alone; ``knn-lm`` fixed interpolation, no spans; ``nest`` quotes
            passages that the model does not read; ``ra`` passages in the prompt; ``ra-nest`` both;
            ``lossless`` spans verified against the model alone, so that its output does not change.
        max_new_tokens: maximum number of tokens to generate; None goes on until the model ends or
            its context does.
        temperature: 0 picks the most probable token; above 0 samples.
        top_k: sample among the ``top_k`` most probable tokens; None for all.
        top_p: sample among the most probable tokens that together reach this probability.
        seed: seed of the sampler; None takes one from torch's own generator, so
            ``torch.manual_seed`` governs it.
        stop: strings that end the answer; they are not part of it.
        k: neighbours kept per query.
        alpha: offset of the retrieval confidence (relative retrieval confidence).
        tau: temperature of the retrieval confidence (relative retrieval confidence).
        knn_temperature: distances of neighbours are divided by ``knn_temperature * sqrt(D)`` before
            they become weights; 1 is the paper's, smaller gives the nearest neighbours more say.
        delta: draft a span only where lambda is at most this; ``lossless`` checks this only before
            drafting from a neighbour, not where the text so far has occurred before.
        gamma: relaxation of the acceptance test (relaxed speculative decoding); smaller accepts
            more.
        max_draft_tokens: longest draft, ``n`` in the paper.
        adaptive_draft: choose the draft length by the running acceptance and the device's speed,
            up to ``max_draft_tokens``. By default ``lossless`` does so, and any answer whose every
            word the model chooses (None): their text does not depend on the length, although the
            samples that a seed gives do.
        fixed_lambda: use this interpolation coefficient everywhere instead of the confidence.
        draft_after_rejection: draft a span even right after a rejected draft; the paper takes one
            plain token.
        mask_copied: never copy the same passage token twice in one answer.
        plausibility: what the model finds less probable than this share of its most probable token
            is neither picked nor accepted; 0 is the paper.
        by_sentence: quote sentences: drafts end with their sentence, the next one is chosen by how
            far the passages' sentences can be trusted to answer, and copied whole; False is the
            paper.
        own_words: the model's share in the choice of each sentence, with ``by_sentence``: 0 says
            nothing but quotations; 0.1 quotes what answers the question, in sentences that the
            model could begin; 0.5 lets the model speak wherever it is sure; 1 leaves every
            beginning to the model.
        num_passages: passages to ask the first-stage search for.
        prompt_passages: how many of them ``ra`` and ``ra-nest`` place in the prompt.
        min_citation_tokens: hide citations of fewer copied tokens, and of a few common words alone
            ("one of the"); 1 shows all. What the model has typed itself is cited by its words, as
            by :func:`nest_engine.cite`, in ``lossless``, ``ra``, ``lm``.
        chat_template_kwargs: variables of the model's chat template, such as
            ``{"enable_thinking": False}``; where the engine or an adapter writes the prompt.
        tuned: a model's own defaults, ``{method: {setting: value}}``, in place of those above.

    Raises:
        ConfigError: if a value is out of range or contradicts another.
    """

    method: Method = "ra-nest"
    max_new_tokens: int | None = 128
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    k: int = 1024
    alpha: float = _BY_METHOD
    tau: float = _BY_METHOD
    knn_temperature: float = _BY_METHOD
    delta: float = _BY_METHOD
    gamma: float = _BY_METHOD
    max_draft_tokens: int = _BY_METHOD
    adaptive_draft: bool | None = _BY_METHOD
    fixed_lambda: float | None = _BY_METHOD
    draft_after_rejection: bool = True
    mask_copied: bool = _BY_METHOD
    plausibility: float = _BY_METHOD
    by_sentence: bool = _BY_METHOD
    own_words: float = _BY_METHOD
    num_passages: int = 40
    prompt_passages: int = 3
    min_citation_tokens: int = 3
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict, hash=False)
    tuned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        elif self.stop is None or isinstance(self.stop, Iterable):
            object.__setattr__(self, "stop", tuple(self.stop or ()))
        self._check("method", f"one of {', '.join(METHODS)}", lambda v: v in METHODS)
        _check_tuned(self.tuned)
        for name in _GENERAL:
            if getattr(self, name) is None:
                object.__setattr__(self, name, self._default(self.method, name))
        self._check(
            "max_new_tokens",
            "a whole number of at least 1, or None",
            lambda v: v is None or (_is_int(v) and v >= 1),
        )
        for name in (
            "k",
            "max_draft_tokens",
            "num_passages",
            "min_citation_tokens",
        ):
            self._check(name, "a whole number of at least 1", lambda v: _is_int(v) and v >= 1)
        self._check(
            "prompt_passages", "a whole number of at least 0", lambda v: _is_int(v) and v >= 0
        )
        self._check(
            "seed",
            "a whole number of 63 bits, or None",
            lambda v: v is None or (_is_int(v) and 0 <= v < 2**63),
        )
        self._check(
            "top_k",
            "a whole number of at least 1, or None",
            lambda v: v is None or (_is_int(v) and v >= 1),
        )
        self._check("temperature", "a number of at least 0", lambda v: _is_number(v) and v >= 0)
        self._check(
            "top_p", "a number above 0 and at most 1", lambda v: _is_number(v) and 0 < v <= 1
        )
        self._check("alpha", "a finite number", _is_number)
        for name in ("tau", "knn_temperature"):
            self._check(name, "a number above 0", lambda v: _is_number(v) and v > 0)
        for name in ("delta", "gamma", "plausibility", "own_words"):
            self._check(name, "a number from 0 to 1", lambda v: _is_number(v) and 0 <= v <= 1)
        self._check(
            "fixed_lambda",
            "a number from 0 to 1, or None",
            lambda v: v is None or (_is_number(v) and 0 <= v <= 1),
        )
        for name in ("by_sentence", "draft_after_rejection", "mask_copied"):
            self._check(name, "True or False", lambda v: isinstance(v, bool))
        self._check(
            "adaptive_draft", "True, False or None", lambda v: v is None or isinstance(v, bool)
        )
        self._check(
            "stop",
            "non-empty strings",
            lambda v: isinstance(v, tuple) and all(isinstance(s, str) and s for s in v),
        )
        self._check(
            "chat_template_kwargs",
            "a mapping of names to values",
            lambda v: isinstance(v, dict) and all(isinstance(name, str) for name in v),
        )

    def _default(self, method: str, name: str) -> Any:
        own = self.tuned.get(method, {})
        return own[name] if name in own else _OF_METHOD.get(method, {}).get(name, _GENERAL[name])

    def _check(self, name: str, expected: str, is_valid: Callable[[Any], bool]) -> None:
        value = getattr(self, name)
        if not is_valid(value):
            raise ConfigError(f"{name}={value!r} is not valid: expected {expected}")

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return self.temperature == 0.0

    @property
    def uses_datastore(self) -> bool:
        """Whether the method searches passage tokens."""
        return self.method not in ("lm", "ra")

    @property
    def mixes(self) -> bool:
        """Whether the method changes the model's distribution."""
        return self.method in ("knn-lm", "nest", "ra-nest")

    @property
    def passages_to_find(self) -> int:
        """How many passages to ask the first-stage search for; 0 if the method uses none."""
        if self.method == "lm":
            return 0
        return self.num_passages if self.uses_datastore else self.prompt_passages

    @property
    def uses_prompt_passages(self) -> bool:
        """Whether the method reads passages in the prompt."""
        return self.method in ("ra", "ra-nest")

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> NestConfig:
        """Build a configuration from a mapping; unknown keys raise ``ConfigError``."""
        return cls(method=settings.get("method", "ra-nest")).replace(**settings)

    def replace(self, **changes: Any) -> NestConfig:
        """Return a copy with some settings changed.

        A change of ``method`` also changes the settings that still had the old method's defaults.

        Raises:
            ConfigError: if a key is unknown or a value is not valid.
        """
        known = [f.name for f in fields(self)]
        for name in changes:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = (
                    f"did you mean {close[0]!r}?"
                    if close
                    else f"known settings: {', '.join(known)}"
                )
                raise ConfigError(f"unknown setting {name!r}; {hint}")
        if changes.get("method", self.method) != self.method:
            inherited = {
                name for name in _GENERAL if getattr(self, name) == self._default(self.method, name)
            }
            changes = dict.fromkeys(inherited, _BY_METHOD) | changes
        return replace(self, **changes)

    def merged(self, config: NestConfig | None, settings: Mapping[str, Any]) -> NestConfig:
        """Return the settings of a call: ``settings`` on top of ``config``, or else of these.

        Args:
            config: the call's configuration, which replaces this one; None keeps this one.
            settings: individual settings of the call.

        Raises:
            ConfigError: if a setting is unknown or not valid.
        """
        if config is not None and not isinstance(config, NestConfig):
            raise ConfigError(
                f"config must be a NestConfig, got {type(config).__name__}: "
                "NestConfig(...) makes one"
            )
        return (config or self).replace(**settings)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a plain dict, with the model's own defaults already applied."""
        settings = asdict(self) | {"stop": list(self.stop)}
        del settings["tuned"]
        return settings

    @classmethod
    def for_method(cls, method: Method, **changes: Any) -> NestConfig:
        """Return the defaults of a method."""
        return cls(method=method).replace(**changes)

    @classmethod
    def lm(cls, **changes: Any) -> NestConfig:
        """The model alone."""
        return cls.for_method("lm", **changes)

    @classmethod
    def knn_lm(cls, **changes: Any) -> NestConfig:
        """Two-stage kNN-LM, the paper's baseline: lambda 0.7, no spans."""
        return cls.for_method("knn-lm", **changes)

    @classmethod
    def ra(cls, **changes: Any) -> NestConfig:
        """Passages in the prompt (paper: the top 3), no kNN."""
        return cls.for_method("ra", **changes)

    @classmethod
    def ra_nest(cls, **changes: Any) -> NestConfig:
        """Passages in the prompt and NEST, sentence by sentence."""
        return cls.for_method("ra-nest", **changes)

    @classmethod
    def lossless(cls, **changes: Any) -> NestConfig:
        """The model's own output, drafted from passages."""
        return cls.for_method("lossless", **changes)

    @classmethod
    def paper_7b(cls, **changes: Any) -> NestConfig:
        """The paper's setting for Llama-2-Chat 7B on Wikipedia tasks."""
        return cls(method="nest").replace(**(_PAPER | {"gamma": 5e-4} | changes))

    @classmethod
    def paper_13b(cls, **changes: Any) -> NestConfig:
        """The paper's setting for Llama-2-Chat 13B on Wikipedia tasks."""
        return cls(method="nest").replace(**(_PAPER | {"gamma": 5e-3} | changes))

    @classmethod
    def paper_70b(cls, **changes: Any) -> NestConfig:
        """The paper's setting for Llama-2-Chat 70B on Wikipedia tasks."""
        return cls(method="nest").replace(**(_PAPER | {"gamma": 5e-2} | changes))


def _check_tuned(tuned: Mapping[str, Mapping[str, Any]]) -> None:
    for method, settings in tuned.items():
        if method not in METHODS or not isinstance(settings, Mapping):
            raise ConfigError(
                f"tuned={{{method!r}: ...}} is not valid: expected {{method: {{setting: value}}}}"
            )
        if unknown := settings.keys() - _GENERAL.keys():
            raise ConfigError(
                f"tuned setting {min(unknown)!r} of {method}: expected one of {', '.join(_GENERAL)}"
            )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
