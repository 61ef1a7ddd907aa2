"""A LangChain chain over a retriever; its citations come back through a callback."""

import sys

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate

import nest_demo
from nest_engine.retrieval import BM25Retriever
from nest_integrations.langchain import CitationCallback, NestLLM, NestRetriever

question = sys.argv[1] if len(sys.argv) > 1 else "When was helium first seen?"
# or your vector store's retriever; then NestLLM(..., embeddings=store.embeddings) as well
retriever = NestRetriever(retriever=BM25Retriever(nest_demo.load_passages()), k=3)
llm = NestLLM.from_model_id(nest_demo.default_model(), max_tokens=64)
prompt = PromptTemplate.from_template("{context}\n\nQuestion: {question}\nAnswer:")

documents = retriever.invoke(question)
context = "\n\n".join(document.page_content for document in documents)
chain = prompt | llm.bind(passages=documents) | StrOutputParser()
cited = CitationCallback()
print(chain.invoke({"context": context, "question": question}, {"callbacks": [cited]}))
for citation in cited.citations:
    print(f"- {citation['cited_text']!r} ({citation['title']}, {citation['url']})")
