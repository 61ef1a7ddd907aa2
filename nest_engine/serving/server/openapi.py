"""The description of the API, made of the models that read requests and write replies."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from nest_engine.serving.server import replies
from nest_engine.serving.server.messages import (
    AnsweredMessage,
    CountedTokens,
    CountRequest,
    MessagesRequest,
)
from nest_engine.serving.server.requests import (
    ChatRequest,
    CompletionsRequest,
    EmbeddingsRequest,
    ResponsesRequest,
)

_REFUSALS = {
    "400": "The request cannot be answered as it is.",
    "401": "The API key is missing or wrong.",
    "403": "Another site's page may not ask.",
    "404": "There is no such model.",
    "413": "The request is too long.",
    "415": "The request is not JSON.",
    "421": "The server does not answer for this host name.",
    "502": "The passage search failed.",
    "503": "Too many requests wait; ask again.",
}


def description(version: str, model: str, root: str = "") -> dict[str, Any]:
    """Return the OpenAPI description of the API.

    Args:
        version: of this package.
        model: the name that requests have to give.
        root: path that the API is mounted at.
    """
    requests: list[type[BaseModel]] = [
        ChatRequest,
        CompletionsRequest,
        ResponsesRequest,
        MessagesRequest,
        CountRequest,
        EmbeddingsRequest,
    ]
    answers: list[type[BaseModel]] = [
        replies.ChatCompletion,
        replies.Completion,
        replies.Response,
        AnsweredMessage,
        CountedTokens,
        replies.Embeddings,
        replies.Models,
        replies.Model,
        replies.Health,
        replies.Error,
    ]
    _, schemas = models_json_schema(
        [
            *((model, "validation") for model in requests),
            *((model, "serialization") for model in answers),
        ],
        ref_template="#/components/schemas/{model}",
    )
    for request in requests:
        schemas["$defs"][request.__name__]["properties"]["model"]["enum"] = [model]
    return {
        "openapi": "3.1.0",
        "info": {"title": "nest-engine", "version": version},
        "servers": [{"url": root or "/"}],
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
        "paths": {
            "/v1/chat/completions": {
                "post": _asking("Chat Completions", ChatRequest, replies.ChatCompletion)
            },
            "/v1/responses": {"post": _asking("Responses", ResponsesRequest, replies.Response)},
            "/v1/completions": {
                "post": _asking("Completions", CompletionsRequest, replies.Completion)
            },
            "/v1/messages": {"post": _asking("Messages", MessagesRequest, AnsweredMessage)},
            "/v1/messages/count_tokens": {
                "post": _asking(
                    "The tokens of messages", CountRequest, CountedTokens, is_answer=False
                )
            },
            "/v1/embeddings": {
                "post": _asking(
                    "The vectors of texts", EmbeddingsRequest, replies.Embeddings, is_answer=False
                )
            },
            "/v1/models": {"get": _getting("The models that can be asked", replies.Models)},
            "/v1/models/{model}": {
                "get": _getting("One of them", replies.Model, also=("404",))
                | {
                    "parameters": [
                        {
                            "name": "model",
                            "in": "path",
                            "required": True,
                            "schema": {"type": "string"},
                        }
                    ]
                }
            },
            "/health": {
                "get": _getting(
                    "Whether requests are answered", replies.Health, also=("503",), refuses=False
                )
            },
            "/metrics": {"get": _plain("Figures for Prometheus", "text/plain", {"type": "string"})},
            "/openapi.json": {
                "get": _plain("This description", "application/json", {"type": "object"})
            },
        },
    }


def _asking(
    name: str, request: type[BaseModel], reply: type[BaseModel], *, is_answer: bool = True
) -> dict[str, Any]:
    event = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
    content = _json(reply) | ({"text/event-stream": {"schema": event}} if is_answer else {})
    what = ": an answer with exact citations, as a whole or as a stream"
    return {
        "summary": name + (what if is_answer else ""),
        "requestBody": {"required": True, "content": _json(request)},
        "responses": {"200": {"description": "The answer.", "content": content}}
        | _refused(*_REFUSALS),
    }


def _getting(
    summary: str, reply: type[BaseModel], *, also: tuple[str, ...] = (), refuses: bool = True
) -> dict[str, Any]:
    found = _plain(summary, "application/json", _json(reply)["application/json"]["schema"])
    found["responses"] |= _refused(*(("401", "403", "421") if refuses else ("403", "421")), *also)
    return found


def _plain(summary: str, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    ok = {"description": summary, "content": {media_type: {"schema": schema}}}
    return {"summary": summary, "responses": {"200": ok} | _refused("401", "403", "421")}


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}


def _refused(*statuses: str) -> dict[str, Any]:
    return {
        status: {"description": _REFUSALS[status], "content": _json(replies.Error)}
        for status in statuses
    }
