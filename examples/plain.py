"""Ask a question; print the answer and where each quotation stands."""

import sys

import nest_demo
from nest_engine.retrieval import BM25Retriever

question = sys.argv[1] if len(sys.argv) > 1 else "When was helium first seen?"
# or NestEngine.from_pretrained("HuggingFaceTB/SmolLM2-360M-Instruct", retriever=...)
engine = nest_demo.load_engine(BM25Retriever(nest_demo.load_passages()))

answer = engine.ask(question, max_new_tokens=64)

print(answer.text)
for citation in answer.citations:
    place = f"{citation.title}, characters {citation.source_start} to {citation.source_end}"
    print(f"- {citation.cited_text!r} ({place})")
print(f"{answer.stats.tokens_per_forward:.1f} tokens for each forward pass")
