"""First-stage search: find the passages that may be quoted.

Files become passages (`read_passages`), passages become an index on disk (`PassageIndex`) or in
memory (`BM25Retriever`, `DenseRetriever`, `HybridRetriever`), and anything that implements
`PassageRetriever.retrieve` can replace them. Importing this package needs none of the optional
libraries; using a class that needs one does.
"""

from nest_engine.interfaces import PassageRetriever
from nest_engine.retrieval.bm25 import BM25Retriever
from nest_engine.retrieval.dense import DenseRetriever
from nest_engine.retrieval.document import Document, Skipped
from nest_engine.retrieval.embedder import Embedder, QueryEmbedder, SentenceTransformerEmbedder
from nest_engine.retrieval.fusion import fuse
from nest_engine.retrieval.hybrid import HybridRetriever
from nest_engine.retrieval.page_picture import page_picture
from nest_engine.retrieval.passage_index import IndexInfo, PassageIndex, SearchMode
from nest_engine.retrieval.progress import Progress
from nest_engine.retrieval.ranking import Ranking
from nest_engine.retrieval.reading import ReadResult, read_documents, read_passages
from nest_engine.retrieval.source_files import is_index
from nest_engine.retrieval.splitting import estimate_tokens, split_document

__all__ = [
    "BM25Retriever",
    "DenseRetriever",
    "Document",
    "Embedder",
    "HybridRetriever",
    "IndexInfo",
    "PassageIndex",
    "PassageRetriever",
    "Progress",
    "QueryEmbedder",
    "Ranking",
    "ReadResult",
    "SearchMode",
    "SentenceTransformerEmbedder",
    "Skipped",
    "estimate_tokens",
    "fuse",
    "is_index",
    "page_picture",
    "read_documents",
    "read_passages",
    "split_document",
]
