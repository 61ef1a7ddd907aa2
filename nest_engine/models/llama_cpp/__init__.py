"""llama.cpp beneath NEST: a GGUF file as it is, quantized weights and all, by its C interface."""
