"""llama.cpp beneath NEST: a GGUF file as it is, quantized weights and all, by its C interface."""

OPTIONS = frozenset({"n_ctx", "n_threads", "n_gpu_layers", "cache_type", "flash_attn"})
"""What only llama.cpp is asked: arguments of ``LlamaCppLanguageModel`` that transformers lacks."""
