"""A LlamaIndex query engine whose response has exact citations."""

import sys

from llama_index.core import SummaryIndex
from llama_index.core.schema import TextNode

import nest_demo
from nest_integrations.llama_index import NestLLM, NestSynthesizer

question = sys.argv[1] if len(sys.argv) > 1 else "When was helium first seen?"
nodes = [
    TextNode(text=passage.text, metadata={"file_name": passage.title})
    for passage in nest_demo.load_passages()
    if passage.title in ("Helium", "Neon", "Argon")
]
index = SummaryIndex(nodes)  # or a VectorStoreIndex; then NestLLM(..., embed_model=...) as well
llm = NestLLM(nest_demo.default_model(), max_new_tokens=64)
query_engine = index.as_query_engine(llm=llm, response_synthesizer=NestSynthesizer(llm))

response = query_engine.query(question)
print(response.numbered_text)
for citation in response.citations:
    print(f"- {citation.cited_text!r} ({citation.file_name}, from {citation.source_start} on)")
