"""Requests made of the API's own description: the server keeps to it, and nothing makes it fail."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.server.support import ASKED, ask

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

FEW = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=15,
    suppress_health_check=list(HealthCheck),
)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def description(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{address}/openapi.json") as response:
        read: dict[str, Any] = json.load(response)
    return read


GETS = ["/v1/models", "/v1/models/{model}", "/health", "/metrics", "/openapi.json"]
POSTS = ["/v1/chat/completions", "/v1/responses"]


@pytest.mark.parametrize(
    ("operation", "mode"),
    [
        *((("GET", path), GenerationMode.POSITIVE) for path in GETS),
        *((("POST", path), mode) for path in POSTS for mode in GenerationMode),
    ],
    ids=str,
)
def test_the_server_does_as_it_describes(
    address: str, operation: tuple[str, str], mode: GenerationMode
) -> None:
    schema = schemathesis.openapi.from_dict(description(address))
    method, path = operation

    @FEW
    @given(case=schema[path][method].as_strategy(mode))
    def check(case: Any) -> None:
        case.call_and_validate(base_url=address, checks=CHECKS, timeout=300)

    check()


def test_every_reference_leads_somewhere(address: str) -> None:
    whole = description(address)
    references = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(whole)))
    assert references == {f"#/components/schemas/{name}" for name in whole["components"]["schemas"]}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@pytest.mark.parametrize("name", ["ChatRequest", "ResponsesRequest"])
def test_no_value_of_any_field_makes_it_fail(address: str, name: str) -> None:
    schemas = description(address)["components"]["schemas"]
    fields = st.sampled_from(sorted(schemas[name]["properties"])).map(lambda field: (field,))
    in_nest = st.sampled_from(sorted(schemas["NestOptions"]["properties"])).map(
        lambda field: ("nest", field)
    )
    path = "/v1/chat/completions" if name == "ChatRequest" else "/v1/responses"
    asked = ASKED if name == "ChatRequest" else {"model": ASKED["model"], "input": "x"}

    @settings(FEW, max_examples=40)
    @given(place=fields | in_nest, value=VALUES)
    def check(place: tuple[str, ...], value: Any) -> None:
        wrong = {place[0]: value} if len(place) == 1 else {"nest": {place[1]: value}}
        body = json.dumps(asked | {"stream": False} | wrong).encode()
        try:
            status, reply = ask(address, path, body)
        except json.JSONDecodeError:  # a stream was asked for
            return
        assert status < 500
        assert status == 200 or reply["error"]["message"]

    check()
