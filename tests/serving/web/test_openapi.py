"""The OpenAPI document: every body and every answer has an example, which is one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from pydantic import BaseModel

from serving.web.schemas import admin, body, feedback, items, newcomers, questions

MODELS: dict[str, type[BaseModel]] = {
    name: model
    for room in (admin, body, feedback, items, newcomers, questions)
    for name, model in vars(room).items()
    if isinstance(model, type) and issubclass(model, BaseModel)
}


def told(document: dict[str, Any], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where something of this type is sent or answered, and its schema."""
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            for part in (route.get("requestBody", {}), route["responses"]["200"]):
                if kind in part.get("content", {}):
                    yield f"{method} {path}", part["content"][kind]["schema"]


def name(schema: dict[str, Any]) -> str:
    """Of the model, which may be in a list, or be left out."""
    return str((schema.get("items") or schema.get("anyOf", [schema])[0])["$ref"].rpartition("/")[2])


def test_every_body_and_every_answer_has_an_example_that_is_one(client: Any) -> None:
    document = client().get("/openapi.json").json()
    components, seen = document["components"]["schemas"], []
    for where, schema in told(document, "application/json"):
        examples = components[name(schema)].get("examples", [])
        assert examples, where
        for example in examples:
            MODELS[name(schema)].model_validate_json(json.dumps(example), extra="forbid")
        seen.append(where)
    assert len(seen) == 39


def test_every_field_of_a_form_that_is_no_file_has_one(client: Any) -> None:
    document = client().get("/openapi.json").json()
    seen = {}
    for _, schema in told(document, "multipart/form-data"):
        for field, facts in document["components"]["schemas"][name(schema)]["properties"].items():
            if facts.get("type") == "string":
                (seen[field],) = facts["examples"]
    assert questions.Question.model_validate_json(seen.pop("question")).user == "u42"
    assert seen == {"item": "i17"}


def test_what_answers_in_plain_text_says_so(client: Any) -> None:
    document = client().get("/openapi.json").json()
    assert {where for where, _ in told(document, "text/plain")} == {"get /healthz", "get /readyz", "get /metrics"}
