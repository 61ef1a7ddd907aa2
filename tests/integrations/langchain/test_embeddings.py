"""The store's own embeddings find the sentence that answers."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.prompts import PromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import InMemoryVectorStore

from nest_engine import NestEngine, Passage, RetrievalError
from nest_engine.retrieval import BM25Retriever, DenseRetriever
from nest_engine.testing import ScriptedLanguageModel
from nest_integrations.langchain import ChatNest, LangChainRetriever, NestLLM, NestRetriever
from nest_integrations.langchain.embedding import LangChainEmbedder, embedder_behind
from tests.integrations.langchain.support import PLAIN_TEMPLATE
from tests.letter_vectors import letter_vectors
from tests.tiny_models import tiny_tokenizer

TEXTS = ["Neon glows red in tubes. Ramsay found it.", "The gas is light. Janssen saw it."]
QUESTION = "Which J?"
ANSWER = "Janssen saw it."


class Vectors(Embeddings):
    """Counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails = False

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        if self.fails:
            raise ConnectionError("no route to the embeddings")
        self.asked += texts
        return [[float(each) for each in row] for row in letter_vectors(texts)]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def unsure() -> NestEngine:
    """A model that finds everything plausible, and would go on for ever."""
    return NestEngine(ScriptedLanguageModel(lambda _: ord("x"), confidence=0.02))


def a_store() -> InMemoryVectorStore:
    return InMemoryVectorStore.from_texts(TEXTS, Vectors())


class Several(BaseRetriever):
    """Asks others, as an ensemble does."""

    retrievers: list[Any]

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [found for each in self.retrievers for found in each.invoke(query)]


class Wrapper(BaseRetriever):
    """Asks one other, as a compressor does."""

    base_retriever: Any

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return list(self.base_retriever.invoke(query))


def by_letters() -> NestRetriever:
    return NestRetriever(retriever=BM25Retriever([Passage(text) for text in TEXTS]))


SOURCES = {
    "a store": a_store,
    "its retriever": lambda: a_store().as_retriever(),
    "an ensemble": lambda: Several(retrievers=[by_letters(), a_store().as_retriever()]),
    "a wrapper": lambda: Wrapper(base_retriever=a_store().as_retriever()),
    "one that retries": lambda: a_store().as_retriever().with_retry(),
    "an engine's retriever": lambda: DenseRetriever(
        [Passage(text) for text in TEXTS], LangChainEmbedder(Vectors())
    ),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_what_is_searched_finds_the_sentence_too(source: Any) -> None:
    settings = {"max_tokens": 60, "own_words": 0, "engine": unsure(), "retriever": source()}
    assert NestLLM(**settings).invoke(QUESTION).startswith(ANSWER)
    assert ANSWER not in NestLLM(**settings, embeddings=False).invoke(QUESTION)


def test_in_a_chat_too() -> None:
    chat = ChatNest(
        engine=unsure(),
        tokenizer=tiny_tokenizer(),
        chat_template=PLAIN_TEMPLATE,
        retriever=a_store(),
        max_tokens=60,
        own_words=0,
    )
    assert chat.invoke(QUESTION).text.startswith(ANSWER)
    [last] = [each.text for each in chat.stream(QUESTION) if ANSWER in each.text]
    assert last.startswith(ANSWER)


def test_documents_of_an_earlier_step_need_them_named() -> None:
    prompt = PromptTemplate.from_template("{context}\n\nQuestion: {question}\nAnswer: ")
    asked = {"context": "\n\n".join(TEXTS), "question": QUESTION}
    documents = [Document(text) for text in TEXTS]
    llm = NestLLM(engine=unsure(), embeddings=Vectors(), max_tokens=60, own_words=0)
    assert (prompt | llm.bind(passages=documents)).invoke(asked).startswith(ANSWER)


def test_the_engines_own_come_first_and_stay() -> None:
    engine = unsure()
    engine.embedder = own = LangChainEmbedder(Vectors())
    store = a_store()
    assert isinstance(store.embedding, Vectors)
    store.embedding.asked.clear()
    llm = NestLLM(engine=engine, retriever=store, max_tokens=60, own_words=0)
    assert llm.invoke(QUESTION).startswith(ANSWER)
    assert store.embedding.asked == [QUESTION]  # the search
    assert engine.embedder is own
    assert engine.retriever is None


def test_a_sentence_is_embedded_once() -> None:
    store = a_store()
    llm = NestLLM(engine=unsure(), retriever=store, max_tokens=60)
    llm.invoke(QUESTION)
    assert isinstance(store.embedding, Vectors)
    store.embedding.asked.clear()
    llm.invoke(QUESTION)
    assert store.embedding.asked == [QUESTION]


def test_an_engine_over_a_store_has_its_embeddings() -> None:
    engine = unsure()
    engine.retriever = LangChainRetriever(a_store())
    assert engine.generate(QUESTION, own_words=0, max_new_tokens=60).text.startswith(ANSWER)


def test_two_that_differ_are_none() -> None:
    assert embedder_behind(Several(retrievers=[a_store(), a_store()])) is None
    assert embedder_behind(by_letters()) is None
    assert embedder_behind(None) is None


def test_embeddings_made_alike_are_one() -> None:
    """A server may make its store anew for each request."""
    stores = [
        InMemoryVectorStore.from_texts(TEXTS, DeterministicFakeEmbedding(size=size))
        for size in (8, 8, 9)
    ]
    one, same, other = [embedder_behind(store) for store in stores]
    assert one is not None
    assert same is not None
    assert other is not None
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert embedder_behind(Several(retrievers=[each.as_retriever() for each in stores[:2]]))


def test_embeddings_that_fail_are_named() -> None:
    store = a_store()
    passages = [Document(text) for text in TEXTS]
    llm = NestLLM(engine=unsure(), retriever=store, max_tokens=60)
    assert isinstance(store.embedding, Vectors)
    store.embedding.fails = True
    with pytest.raises(RetrievalError, match="no route to the embeddings; without one, letters"):
        llm.invoke(QUESTION, passages=passages)


def test_what_cannot_embed_is_refused() -> None:
    with pytest.raises(ValueError, match="embeddings=str cannot embed"):
        NestLLM(engine=unsure(), embeddings="all-MiniLM-L6-v2")
