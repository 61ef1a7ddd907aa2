"""NEST on Ray: replicas of the API of `nest serve`, and workers for passage keys and answers.

import nest_demo
from nest_integrations.ray import serve_app
from ray import serve

serve.run(serve_app(nest_demo.load_engine, model="nest-demo", num_replicas=2))
"""

from nest_engine.errors import MissingDependencyError

try:
    import ray  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "ray":
        raise  # installed but broken: its own error tells more
    raise MissingDependencyError("ray", "ray") from error

from nest_integrations.ray.keys import build_keys
from nest_integrations.ray.rows import generate_rows
from nest_integrations.ray.serving import serve_app

__all__ = ["build_keys", "generate_rows", "serve_app"]
