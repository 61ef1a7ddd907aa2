"""LangChain's standard suites for chat models, on scripted models that read their prompts."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="needs: pip install 'nest-engine[langchain]'")
pytest.importorskip("langchain_tests", reason="langchain-tests holds the standard suites")

from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from nest_engine import NestEngine
from nest_integrations.langchain import ChatNest
from tests.integrations.langchain.support import PLAIN_TEMPLATE, tool_engine, tool_tokenizer


class WithTools:
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatNest

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"engine": tool_engine(), "tokenizer": tool_tokenizer(), "model_name": "scripted"}

    @property
    def supports_model_override(self) -> bool:
        return False  # the model is in memory; a call cannot name another


class TestChatNestUnit(WithTools, ChatModelUnitTests):
    pass


class TestChatNestIntegration(WithTools, ChatModelIntegrationTests):
    pass


class TestChatNestOnTheShippedModel(ChatModelIntegrationTests):
    """A real model, whose template has no tools."""

    @pytest.fixture(autouse=True)
    def _take_engine(self, demo_engine: NestEngine) -> None:
        self._engine = demo_engine

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatNest

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"engine": self._engine, "chat_template": PLAIN_TEMPLATE, "max_tokens": 12}

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        return super().standard_chat_model_params | {"max_tokens": 12}

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False

    @property
    def supports_model_override(self) -> bool:
        return False
