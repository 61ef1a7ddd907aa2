"""NEST in LangChain: models that copy from retrieved documents and cite what they copied.

from nest_integrations.langchain import CitationCallback, NestLLM

llm = NestLLM.from_model_id("HuggingFaceTB/SmolLM2-360M", retriever=vectorstore)
cited = CitationCallback()
llm.invoke("Who discovered helium?", config={"callbacks": [cited]})
cited.citations
"""

from typing import Any

from nest_engine.errors import MissingDependencyError

try:
    import langchain_core  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "langchain_core":
        raise
    raise MissingDependencyError("langchain-core", "langchain") from error

from nest_integrations.langchain.callbacks import CitationCallback
from nest_integrations.langchain.chat import ChatNest
from nest_integrations.langchain.citing import CiteSources
from nest_integrations.langchain.documents import to_document, to_passage
from nest_integrations.langchain.llm import NestLLM
from nest_integrations.langchain.retrievers import (
    LangChainRetriever,
    NestRetriever,
    VectorStoreWithScores,
)

__all__ = [
    "ChatNest",
    "CitationCallback",
    "CiteSources",
    "LangChainRetriever",
    "NestLLM",
    "NestRetriever",
    "VectorStoreWithScores",
    "to_document",
    "to_passage",
]


def __getattr__(name: str) -> Any:
    """Import the middleware when it is asked for: it needs the package ``langchain``."""
    if name == "CiteMiddleware":
        from nest_integrations.langchain.middleware import CiteMiddleware

        return CiteMiddleware
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
