"""NEST in LlamaIndex: an LLM and a response synthesizer that quote retrieved nodes verbatim.

from nest_integrations.llama_index import NestLLM, NestSynthesizer

llm = NestLLM(model_name="HuggingFaceTB/SmolLM2-360M-Instruct")
query_engine = index.as_query_engine(llm=llm, response_synthesizer=NestSynthesizer(llm))
query_engine.query("Who discovered helium?").citations
"""

from nest_engine.errors import MissingDependencyError

try:
    import llama_index.core  # noqa: F401
except ModuleNotFoundError as error:
    if error.name not in ("llama_index", "llama_index.core"):
        raise  # installed but broken: its own error tells more
    raise MissingDependencyError("llama-index-core", "llama-index") from error

from nest_integrations.llama_index.citing import CitingQueryEngine, cite_response
from nest_integrations.llama_index.events import CitationCollector, NestCitationEvent
from nest_integrations.llama_index.llm import NestLLM
from nest_integrations.llama_index.nodes import NodeCitation, passage_of
from nest_integrations.llama_index.postprocessor import NestNodePostprocessor
from nest_integrations.llama_index.responses import (
    NestAsyncStreamingResponse,
    NestChatResponse,
    NestCompletionResponse,
    NestResponse,
    NestStreamingResponse,
)
from nest_integrations.llama_index.retriever import NodeRetriever
from nest_integrations.llama_index.synthesizer import NestSynthesizer

__all__ = [
    "CitationCollector",
    "CitingQueryEngine",
    "NestAsyncStreamingResponse",
    "NestChatResponse",
    "NestCitationEvent",
    "NestCompletionResponse",
    "NestLLM",
    "NestNodePostprocessor",
    "NestResponse",
    "NestStreamingResponse",
    "NestSynthesizer",
    "NodeCitation",
    "NodeRetriever",
    "cite_response",
    "passage_of",
]
