"""Citations behind any chat model: :class:`CiteSources`, a runnable."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from langchain_core.callbacks import (
    AsyncCallbackManagerForChainRun,
    CallbackManagerForChainRun,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.content import Citation
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import patch_config

from nest_engine import CitationStream, CitedAnswer, Citer, InputError, Passage
from nest_engine.citing import MIN_WORDS, citable
from nest_engine.records import plain
from nest_integrations.langchain.answers import PROVIDER, citations_of
from nest_integrations.langchain.documents import as_passages
from nest_integrations.langchain.events import CITATION_EVENT, CITED_EVENT
from nest_integrations.langchain.retrievers import as_retriever, passages_found

_ANSWER_KEYS = ("answer", "output", "message", "result")
_DOCUMENT_KEYS = ("context", "documents", "source_documents")
_QUESTION_KEYS = ("question", "input", "query")


class CiteSources(Runnable[Any, Any]):
    """Cite what a chat model has written, whichever model it is.

    It stands behind a model, ``prompt | model | CiteSources(documents)``, or behind a chain whose
    output also has the documents, where it replaces the answer::

        chain = (
            RunnablePassthrough.assign(context=itemgetter("question") | retriever)
            | RunnablePassthrough.assign(answer=prompt | model)
            | CiteSources()
        )
        message = chain.invoke({"question": "Who discovered helium?"})["answer"]

    The message that comes out has the same text. Its ``content_blocks`` carry LangChain's standard
    citations, which are also in ``response_metadata["citations"]``;
    ``response_metadata["sentences"]`` tells which sentences are quoted whole, which are spliced
    from pieces, and which are the model's own. In a stream each citation comes as soon as nothing
    that follows can change it. Callbacks: :class:`CitationCallback` collects the citations, and
    each is a ``nest_citation`` event.

    Args:
        documents: what may be quoted, best first: documents or passages. A chain's own come first.
        retriever: a vector store or retriever that finds them otherwise, by the chain's question
            or, where nobody knows it, by the answer.
        min_words: fewest words of a quotation.
        answer_key: where a chain's output has the answer; by default ``answer``, ``output``,
            ``message`` or ``result``.
        documents_key: where it has the documents; by default ``context``, ``documents`` or
            ``source_documents``.
        question_key: where it has the question; by default ``question``, ``input`` or ``query``.

    Raises:
        InputError: if an argument is not valid.
        ConfigError: if the retriever cannot search.
    """

    def __init__(
        self,
        documents: Iterable[Document | Passage] | None = None,
        *,
        retriever: Any = None,
        min_words: int = MIN_WORDS,
        answer_key: str | None = None,
        documents_key: str | None = None,
        question_key: str | None = None,
    ) -> None:
        self._documents = None if documents is None else as_passages(documents)
        self._retriever = None if retriever is None else as_retriever(retriever)
        self._min_words = min_words
        self._keys = _Keys(
            _ANSWER_KEYS if answer_key is None else (answer_key,),
            _DOCUMENT_KEYS if documents_key is None else (documents_key,),
            _QUESTION_KEYS if question_key is None else (question_key,),
        )
        Citer([], min_words=min_words)  # refuses what is not a number of words

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Cite an answer.

        Args:
            input: a message, a text, or a mapping that has one beside its documents.
            config: as for every runnable.
            kwargs: none.

        Returns:
            the message, or the mapping with it.

        Raises:
            InputError: if there is no answer, or nobody knows the documents.
        """
        return self._call_with_config(self._cite, input, config)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Cite an answer; see :meth:`invoke`."""
        return await self._acall_with_config(self._acite, input, config)

    def stream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """Cite an answer that is complete; see :meth:`transform`."""
        yield from self.transform(iter([input]), config)

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Cite an answer that is complete; see :meth:`atransform`."""

        async def one() -> AsyncIterator[Any]:
            yield input

        async for chunk in self.atransform(one(), config):
            yield chunk

    def transform(
        self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """Cite an answer while it is being written."""
        yield from self._transform_stream_with_config(input, self._cite_stream, config)

    async def atransform(
        self, input: AsyncIterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Cite an answer while it is being written."""
        async for chunk in self._atransform_stream_with_config(input, self._acite_stream, config):
            yield chunk

    def cite_message(
        self, message: AIMessage, passages: Sequence[Passage], question: str | None = None
    ) -> AIMessage:
        """Return a message with its citations, for code that has no chain.

        Args:
            message: the answer; one without text, such as a call of tools, stays as it is.
            passages: what it may quote, best first.
            question: what was asked.
        """
        if not message.text:
            return message
        cited = Citer(passages, min_words=self._min_words).cite(
            citable(str(message.text)), question=question
        )
        content = message.content
        if not isinstance(content, str):
            blocks = _TextBlocks(has_pieces=False)
            content = blocks.annotated(content, citations_of(cited))
        info = _provider(content) | {"citations": citations_of(cited), **_verdicts(cited)}
        return message.model_copy(
            update={"content": content, "response_metadata": message.response_metadata | info}
        )

    def _cite(
        self, input: Any, run_manager: CallbackManagerForChainRun, config: RunnableConfig
    ) -> Any:
        asked = _Asked.read(input, self._keys)
        passages = self._known(asked)
        if passages is None:
            child = patch_config(config, callbacks=run_manager.get_child())
            passages = self._found(asked.query, child)
        message = self.cite_message(asked.message, passages, asked.question)
        _fire(message.response_metadata.get("citations", ()), config, run_manager)
        return asked.answered(message)

    async def _acite(
        self, input: Any, run_manager: AsyncCallbackManagerForChainRun, config: RunnableConfig
    ) -> Any:
        asked = _Asked.read(input, self._keys)
        passages = self._known(asked)
        if passages is None:
            child = patch_config(config, callbacks=run_manager.get_child())
            passages = await self._afound(asked.query, child)
        message = self.cite_message(asked.message, passages, asked.question)
        await _afire(message.response_metadata.get("citations", ()), config, run_manager)
        return asked.answered(message)

    def _cite_stream(
        self,
        input: Iterator[Any],
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
    ) -> Iterator[Any]:
        answer = _StreamedAnswer(self._keys, self._min_words, self._documents)
        child = patch_config(config, callbacks=run_manager.get_child())
        for chunk in input:
            if answer.needs_documents(chunk, is_last=False) and self._retriever:
                answer.use(self._found(answer.query, child))
            yield from answer.push(chunk)
        if answer.needs_documents(None, is_last=True):
            answer.use(self._found(answer.query, child))
        yield from answer.close()
        _fire(answer.citations, config, run_manager)

    async def _acite_stream(
        self,
        input: AsyncIterator[Any],
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
    ) -> AsyncIterator[Any]:
        answer = _StreamedAnswer(self._keys, self._min_words, self._documents)
        child = patch_config(config, callbacks=run_manager.get_child())
        async for chunk in input:
            if answer.needs_documents(chunk, is_last=False) and self._retriever:
                answer.use(await self._afound(answer.query, child))
            for said in answer.push(chunk):
                yield said
        if answer.needs_documents(None, is_last=True):
            answer.use(await self._afound(answer.query, child))
        for said in answer.close():
            yield said
        await _afire(answer.citations, config, run_manager)

    def _known(self, asked: _Asked) -> Sequence[Passage] | None:
        return self._documents if asked.passages is None else asked.passages

    def _found(self, query: str, config: RunnableConfig) -> Sequence[Passage]:
        retriever = self._search()
        return passages_found(retriever, retriever.invoke(query, config))

    async def _afound(self, query: str, config: RunnableConfig) -> Sequence[Passage]:
        retriever = self._search()
        return passages_found(retriever, await retriever.ainvoke(query, config))

    def _search(self) -> Runnable[str, list[Document]]:
        if self._retriever is None:
            raise InputError(
                f"there are no documents to cite: give CiteSources documents or a retriever=, or "
                f"put them into the chain's output under {' or '.join(self._keys.documents)}"
            )
        return self._retriever


class _Keys(NamedTuple):
    """Where a chain's output has what."""

    answer: Sequence[str]
    documents: Sequence[str]
    question: Sequence[str]


class _Asked(NamedTuple):
    """An answer, and what a chain tells about it."""

    message: AIMessage
    passages: Sequence[Passage] | None
    question: str | None
    output: Mapping[str, Any] | None  # of the chain
    key: str

    @classmethod
    def read(cls, given: Any, keys: _Keys) -> _Asked:
        if not isinstance(given, Mapping):
            return cls(_as_message(given), None, None, None, "")
        key = _first(given, keys.answer)
        if key is None:
            raise InputError(
                f"the chain's output has no answer: {', '.join(map(str, given))}; put it under "
                f"{' or '.join(keys.answer)}, or name its key with answer_key="
            )
        return cls(_as_message(given[key]), *_context(given, keys), given, key)

    @property
    def query(self) -> str:
        return self.question or str(self.message.text)

    def answered(self, message: AIMessage) -> Any:
        return message if self.output is None else {**self.output, self.key: message}


class _StreamedAnswer:
    """An answer that is being written: its chunks, and citations as they become final."""

    def __init__(self, keys: _Keys, min_words: int, documents: Sequence[Passage] | None) -> None:
        self._keys = keys
        self._min_words = min_words
        self._documents = documents
        self._question: str | None = None
        self._key: str | None = None  # of the answer in the chain's output
        self._text = ""
        self._stream: CitationStream | None = None
        self._blocks: _TextBlocks | None = None  # where content is blocks
        self.citations: list[Citation] = []

    @property
    def query(self) -> str:
        return self._question or self._text

    def needs_documents(self, chunk: Any, *, is_last: bool) -> bool:
        """Return whether it is time to search: no documents, and the query is known."""
        if isinstance(chunk, Mapping):
            passages, question = _context(chunk, self._keys)
            self._documents = self._documents if passages is None else passages
            self._question = question or self._question
        if self._documents is not None or self._stream is not None:
            return False
        return is_last or bool(self._question and _first(chunk, self._keys.answer))

    def use(self, passages: Sequence[Passage]) -> None:
        self._documents = passages

    def push(self, chunk: Any) -> Iterator[Any]:
        """Yield a chunk with the citations that it has made final."""
        if not isinstance(chunk, Mapping):
            yield self._cited(chunk)
            return
        key = _first(chunk, self._keys.answer)
        rest = {name: value for name, value in chunk.items() if name != key}
        if rest:
            yield rest
        if key is not None:
            self._key = key
            yield {key: self._cited(chunk[key])}

    def close(self) -> Iterator[Any]:
        """Yield the remaining citations."""
        if not self._text:
            return
        stream = self._opened()
        fresh = self._fresh([*stream.push(self._text[len(stream.text) :]), *stream.close()])
        said = AIMessageChunk(
            content="" if self._blocks is None else self._blocks.annotated([], fresh),
            response_metadata={**self._info(fresh), **_verdicts(stream.answer)},
        )
        yield said if self._key is None else {self._key: said}

    def _cited(self, given: Any) -> AIMessageChunk:
        chunk = _as_chunk(given)
        self._text += citable(str(chunk.text))
        fresh: list[Citation] = []
        if self._documents is not None:
            stream = self._opened()  # perhaps after some text has come
            fresh = self._fresh(stream.push(self._text[len(stream.text) :]))
        content = chunk.content
        if not isinstance(content, str):
            before = len(self._text) - len(str(chunk.text))
            self._blocks = self._blocks or _TextBlocks(has_pieces=True, begin=before)
            content = self._blocks.annotated(content, fresh)
        return chunk.model_copy(
            update={
                "content": content,
                "response_metadata": chunk.response_metadata | self._info(fresh),
            }
        )

    def _opened(self) -> CitationStream:
        if self._stream is None:
            citer = Citer(self._documents or (), min_words=self._min_words)
            self._stream = citer.stream(question=self._question)
        return self._stream

    def _fresh(self, citations: Sequence[Any]) -> list[Citation]:
        fresh = citations_of(CitedAnswer("", tuple(citations)))
        self.citations += fresh
        return fresh

    def _info(self, fresh: list[Citation]) -> dict[str, Any]:
        info = _provider("" if self._blocks is None else self._blocks)
        return info | ({"citations": fresh} if fresh else {})


def _as_message(given: Any) -> AIMessage:
    if isinstance(given, AIMessage):
        return given
    if isinstance(given, str):
        return AIMessage(given)
    if isinstance(given, BaseMessage):
        return AIMessage(given.content)
    raise InputError(f"the answer must be a message or a text, got {type(given).__name__}")


def _as_chunk(given: Any) -> AIMessageChunk:
    if isinstance(given, AIMessageChunk):
        return given
    message = _as_message(given)
    kept = message.model_dump(exclude={"type", "content", "tool_calls", "invalid_tool_calls"})
    calls = [
        tool_call_chunk(
            name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=number
        )
        for number, call in enumerate(message.tool_calls)
    ]
    return AIMessageChunk(content=message.content, tool_call_chunks=calls, **kept)


def _context(given: Mapping[str, Any], keys: _Keys) -> tuple[Sequence[Passage] | None, str | None]:
    """Return the documents and the question in a chain's output."""
    documents = next(
        (
            given[key]
            for key in keys.documents
            if isinstance(given.get(key), (list, tuple))
            and all(isinstance(item, (Document, Passage)) for item in given[key])
        ),
        None,
    )
    question = next((given[key] for key in keys.question if isinstance(given.get(key), str)), None)
    return None if documents is None else as_passages(documents), question


def _first(given: Any, keys: Sequence[str]) -> str | None:
    if not isinstance(given, Mapping):
        return None
    return next((key for key in keys if key in given), None)


class _TextBlocks:
    """The text blocks of an answer: LangChain's standard citations count within their block.

    Args:
        has_pieces: whether blocks come in pieces, which their index puts together.
        begin: characters of the text in front of them.
    """

    def __init__(self, *, has_pieces: bool, begin: int = 0) -> None:
        self._has_pieces = has_pieces
        self._begins: dict[Any, int] = {}  # of each block in the whole text
        self._end = begin

    def annotated(self, content: Sequence[Any], citations: Sequence[Citation]) -> list[Any]:
        """Return content with each citation at the block where it begins.

        Args:
            content: the blocks, or the next pieces of them.
            citations: their offsets count in the whole text.
        """
        blocks: list[Any] = []
        known: dict[Any, dict[str, Any]] = {}
        for given in content:
            block = {"type": "text", "text": given} if isinstance(given, str) else given
            if isinstance(block, Mapping):
                block = dict(block)
                if block.get("type") == "text":
                    name = block.get("index") if self._has_pieces else len(blocks)
                    self._begins.setdefault(name, self._end)
                    self._end += len(block.get("text") or "")
                    known.setdefault(name, block)
            blocks.append(block)
        for citation in citations:
            name, begin, end = self._block_at(citation["start_index"])
            if name not in known:
                known[name] = {"type": "text", "text": ""}
                known[name] |= {} if name is None else {"index": name}
                blocks.append(known[name])
            place = {
                "start_index": citation["start_index"] - begin,
                "end_index": min(citation["end_index"], end) - begin,
            }
            given, cited = known[name].get("annotations") or [], {**citation, **place}
            # Not again in an answer that has been cited before.
            known[name]["annotations"] = given if cited in given else [*given, cited]
        return blocks

    def _block_at(self, position: int) -> tuple[Any, int, int]:
        """Return the block that holds a character of the whole text, and where it is in it."""
        begins = [*self._begins.values(), self._end]
        held = (
            (name, begin, end)
            for (name, begin), end in zip(self._begins.items(), begins[1:], strict=True)
            if begin <= position < end
        )
        return next(held, (None, 0, sys.maxsize))  # in front of them: a text without blocks


def _provider(content: object) -> dict[str, Any]:
    """Return the provider whose reading of a message knows its citations.

    Blocks carry their citations themselves.
    """
    return {"model_provider": PROVIDER} if isinstance(content, str) else {}


def _verdicts(cited: CitedAnswer) -> dict[str, Any]:
    return {"sentences": plain(cited.sentences)}


def _fire(
    citations: Sequence[Citation], config: RunnableConfig, run: CallbackManagerForChainRun
) -> None:
    child = patch_config(config, callbacks=run.get_child())
    for citation in citations:
        dispatch_custom_event(CITATION_EVENT, citation, config=child)
    dispatch_custom_event(CITED_EVENT, {"citations": list(citations)}, config=child)


async def _afire(
    citations: Sequence[Citation], config: RunnableConfig, run: AsyncCallbackManagerForChainRun
) -> None:
    child = patch_config(config, callbacks=run.get_child())
    for citation in citations:
        await adispatch_custom_event(CITATION_EVENT, citation, config=child)
    await adispatch_custom_event(CITED_EVENT, {"citations": list(citations)}, config=child)
