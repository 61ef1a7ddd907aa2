"""Settings of a model and of a call: ``NestConfig`` under the names of LangChain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import AliasChoices, BaseModel, Field

from nest_engine import ConfigError, NestConfig
from nest_engine.config import Method

_PIPELINE_ONLY = {"do_sample", "return_full_text"}


class NestSettings(BaseModel):
    """The fields of ``NestConfig``; None means the value of ``config``, or of the engine."""

    config: NestConfig | None = None
    method: Method | None = None
    max_tokens: int | None = Field(
        default=None, validation_alias=AliasChoices("max_tokens", "max_new_tokens")
    )
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: list[str] | None = None
    k: int | None = None
    alpha: float | None = None
    tau: float | None = None
    knn_temperature: float | None = None
    delta: float | None = None
    gamma: float | None = None
    max_draft_tokens: int | None = None
    adaptive_draft: bool | None = None
    fixed_lambda: float | None = None
    draft_after_rejection: bool | None = None
    mask_copied: bool | None = None
    plausibility: float | None = None
    by_sentence: bool | None = None
    own_words: float | None = None
    num_passages: int | None = None
    prompt_passages: int | None = None
    min_citation_tokens: int | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    def config_for(
        self, default: NestConfig, stop: Sequence[str] | str | None, settings: Mapping[str, Any]
    ) -> NestConfig:
        """Return the settings of one call.

        Args:
            default: the engine's settings.
            stop: stop strings of the call, in addition to those configured before.
            settings: single settings of the call.

        Raises:
            ConfigError: if a setting is unknown or not valid.
        """
        named = {
            name: getattr(self, name) for name in NestSettings.model_fields if name != "config"
        }
        own = {name: value for name, value in named.items() if value is not None and name != "stop"}
        config = (
            (self.config or default).replace(**engine_names(own)).replace(**engine_names(settings))
        )
        stops = [
            *config.stop,
            *(self.stop or ()),
            *([stop] if isinstance(stop, str) else stop or ()),
        ]
        return config.replace(stop=tuple(dict.fromkeys(stops)))


def engine_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under the engine's names: ``max_tokens`` is ``max_new_tokens`` there.

    Raises:
        ConfigError: if both names are given.
    """
    named = dict(settings)
    if "max_tokens" in named:
        if "max_new_tokens" in named:
            raise ConfigError(
                f"max_tokens={named['max_tokens']} and max_new_tokens={named['max_new_tokens']} "
                "are the same setting; give one"
            )
        named["max_new_tokens"] = named.pop("max_tokens")
    return named


def from_pipeline_kwargs(pipeline_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the settings that ``HuggingFacePipeline`` takes as ``pipeline_kwargs``.

    Raises:
        ConfigError: if one asks for what the engine does not do.
    """
    given = dict(pipeline_kwargs or {})
    settings = {name: value for name, value in given.items() if name not in _PIPELINE_ONLY}
    if given.get("return_full_text"):
        raise ConfigError(
            "return_full_text=True: an answer never repeats its prompt, or citations would not fit "
            "it"
        )
    if given.get("do_sample") is False:
        settings["temperature"] = 0.0
    elif given.get("do_sample"):
        settings.setdefault("temperature", 1.0)
    NestConfig().replace(**engine_names(settings))  # refuses what is unknown
    return settings
