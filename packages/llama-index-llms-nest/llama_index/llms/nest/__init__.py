"""NEST in LlamaIndex: :mod:`nest_integrations.llama_index` under the name that its users expect."""

from nest_integrations.llama_index import *  # noqa: F403
from nest_integrations.llama_index import __all__ as __all__
