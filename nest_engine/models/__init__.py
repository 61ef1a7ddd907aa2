"""Everything that runs a model: transformers or llama.cpp, tokenizers, caches, splitting.

For users: ``HuggingFaceLanguageModel`` in ``huggingface``, ``LlamaCppLanguageModel`` in
``llama_cpp.model`` and ``TensorParallelLanguageModel`` in ``tensor_parallel``.
"""
