"""The API of `nest serve` under Ray Serve, in replicas with an engine each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ray import serve
from ray.serve import Application

from nest_engine._validation import require_count
from nest_engine.serving.server import Limits
from nest_engine.serving.server.app import SECONDS_TO_CLOSE
from nest_integrations.ray.ingress import Ingress
from nest_integrations.ray.loading import LoadEngine, require_loader
from nest_integrations.ray.replica import Replica

_INGRESS_REQUESTS = 100_000  # Ray wants a number; the limits are those of the replicas


def serve_app(
    load_engine: LoadEngine,
    *,
    model: str,
    api_key: str | None = None,
    limits: Limits | None = None,
    max_running: int = 8,
    max_waiting: int = 64,
    num_replicas: int | Literal["auto"] | None = None,
    autoscaling_config: Mapping[str, Any] | None = None,
    max_ongoing_requests: int | None = None,
    max_queued_requests: int | None = None,
    num_ingresses: int = 1,
    ray_actor_options: Mapping[str, Any] | None = None,
) -> Application:
    """Return the API as an application for ``serve.run``, or for ``serve run module:app``.

    Ray's proxies hand each request to an ingress, which hands it to a replica. A replica loads an
    engine, batches its requests, and refuses those beyond ``max_running`` and ``max_waiting`` with
    status 503 and ``Retry-After``. Ray replaces a replica that has died or whose scheduler has
    ended; its clients get an error, those with streams included.

    Args:
        load_engine: returns an engine; called once in each replica. Its retriever is used where a
            request brings no passages, and its config holds the defaults of requests.
        model: the name by which clients ask for the model.
        api_key: required on every route but ``/health``. Without one, only requests from the
            machine that Ray's proxy runs on are answered.
        limits: what one request may ask for at most.
        max_running: most answers that a replica decodes together.
        max_waiting: most requests that wait in a replica beside them.
        num_replicas: number of replicas, or ``auto``; 1 when left out.
        autoscaling_config: as for ``serve.deployment``; ``target_ongoing_requests`` is
            ``max_running`` when left out.
        max_ongoing_requests: most requests that Ray hands to a replica; further ones wait in the
            ingress. When left out, twice what a replica takes, so that it is the replica that
            refuses.
        max_queued_requests: most requests that wait in each ingress while no replica takes them;
            further ones are refused with status 503. No limit when left out.
        num_ingresses: processes between Ray's proxies and the replicas.
        ray_actor_options: what each replica needs, such as ``{"num_gpus": 1}``; one CPU when left
            out.

    Returns:
        the bound application.

    Raises:
        ConfigError: if ``load_engine`` is not callable, or ``max_running`` or ``max_waiting`` out
            of range.
        ValueError: if Ray does not take an option.
    """
    require_loader(load_engine)
    # Replicas check these too, but only after Ray has started many of them.
    require_count("max_running", max_running)
    require_count("max_waiting", max_waiting, 0)
    limits = limits or Limits()
    if max_ongoing_requests is None:
        max_ongoing_requests = 2 * (max_running + max_waiting)
    options: dict[str, Any] = {
        "name": "nest",
        "max_ongoing_requests": max_ongoing_requests,
        "graceful_shutdown_timeout_s": SECONDS_TO_CLOSE,
        "ray_actor_options": {"num_cpus": 1} | dict(ray_actor_options or {}),
    }
    if num_replicas is not None:
        options["num_replicas"] = num_replicas
    if autoscaling_config is not None or num_replicas == "auto":
        options["autoscaling_config"] = {"target_ongoing_requests": max_running} | dict(
            autoscaling_config or {}
        )
    if max_queued_requests is not None:
        options["max_queued_requests"] = max_queued_requests
    replicas = serve.deployment(**options)(Replica).bind(
        load_engine,
        model=model,
        api_key=api_key or None,
        limits=limits,
        max_running=max_running,
        max_waiting=max_waiting,
    )
    ingress = serve.deployment(
        name="ingress",
        num_replicas=num_ingresses,
        max_ongoing_requests=_INGRESS_REQUESTS,
        graceful_shutdown_timeout_s=SECONDS_TO_CLOSE,
        ray_actor_options={"num_cpus": 0},  # it waits and passes on
    )(serve.ingress()(Ingress))
    return ingress.bind(replicas, api_key=api_key or None, body_bytes=limits.body_bytes)
