"""Everything that runs a model: transformers, its tokenizer, the caches, splitting over processes.

For users: ``HuggingFaceLanguageModel`` in ``huggingface`` and ``TensorParallelLanguageModel`` in
``tensor_parallel``.
"""
