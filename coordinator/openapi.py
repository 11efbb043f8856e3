"""The REST interface described as OpenAPI 3.1: every route of control.py and watching.py, and what they answer.

The schema of a status is made from its classes, so it cannot fall behind them; tests hold the rest to the routes.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from common.version import version
from coordinator.status import Status

_Object = dict[str, Any]


@cache
def description() -> _Object:
    """The whole document; made once."""
    schemas: _Object = {
        "Error": _object({"error": _text("one line for people")}),
        "Explained": {
            "type": "object",
            "description": "What `coord why --json` prints: `state`, and what belongs to it.",
            "properties": {"url": {"type": "string"}, "state": {"type": "string"}},
            "required": ["url", "state"],
        },
        "Series": _object(
            {
                "step_seconds": {"type": "number"},
                "at": _numbers("wall time of each point's end, seconds since 1970"),
                "pages": _numbers("ended requests a second"),
                "bytes": _numbers("bytes a second"),
                "in_flight": _numbers("fetches in flight at the end"),
                "queued": _numbers("requests queued at the end"),
                "outcomes": {
                    "type": "object",
                    "description": "by outcome: ended requests a second",
                    "additionalProperties": _numbers(""),
                },
            }
        ),
    }
    _schema(Status, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Shoal",
            "version": version(),
            "description": (
                "Watching and steering a running crawl. Reading is open on loopback; beyond it, and for every change, "
                "the token of DIR/coord.json is needed. Later versions add keys, they never change or take one away."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "the address that `coord status --json` tells as `http`"}],
        "security": [{}, {"token": []}],
        "paths": {
            "/": _file("The dashboard, a page for people", "dashboard", "text/html"),
            "/dashboard/{name}": _file(
                "A file of the dashboard", "dashboardFile", "*/*", path={"name": _text("its name")}
            ),
            "/api/v1/status": _read("The crawl at this moment", "status", _ref("Status")),
            "/api/v1/history": _read(
                "How it went: by the second for ten minutes, by the minute for a day",
                "history",
                _object({"seconds": _ref("Series"), "minutes": _ref("Series")}),
            ),
            "/api/v1/events": _read(
                "Server-sent events: `status` each second (a Status), `failed` for each failed try (a FailedTry), "
                "`end` when the coordinator goes (a last Status)",
                "events",
                {"type": "string"},
                media="text/event-stream",
                errors=(503,),
            ),
            "/api/v1/openapi.json": _read("This document", "openapi", {"type": "object"}),
            "/metrics": _read(
                "For Prometheus, text format 0.0.4", "metrics", {"type": "string"}, media="text/plain"
            ),
            "/api/v1/why": _read(
                "What became of a URL; of one never met, which rule refuses it",
                "why",
                _ref("Explained"),
                query={"url": _text("the URL, as anybody would type it")},
                errors=(400, 404),
            ),
            "/api/v1/options": _read(
                "What `set` changes, as it stands; secrets masked",
                "options",
                _object(
                    {
                        "scope": _text("the kind of the scope; it stands for the whole run"),
                        "options": {
                            "type": "object",
                            "description": "by name; null: no limit; seconds, bytes, lists of texts",
                        },
                        "hosts": {
                            "type": "array",
                            "description": "the last 200 rules for hosts; the last one that says something counts",
                            "items": _object({"match": _text("the pattern")}, ("match",)),
                        },
                        "rules": {"type": "integer", "description": "how many rules there are"},
                    }
                ),
            ),
            "/api/v1/stop": _change(
                "End the crawl; it can be gone on with",
                "stop",
                {"now": _flag("at once; else what is in flight is brought home, at most ten seconds")},
                _object({"stopping": _flag("")}),
            ),
            "/api/v1/pause": _change(
                "Fetch nothing until `resume`", "pause", {}, _object({"paused": _flag("")})
            ),
            "/api/v1/resume": _change("Go on", "resume", {}, _object({"paused": _flag("")})),
            "/api/v1/add": _change(
                "Admit more seeds; answered when they are durable",
                "add",
                {"seeds": _texts("URLs, ranges, files on the coordinator's machine")},
                _object({name: {"type": "integer"} for name in ("read", "added", "known", "bad")}),
                required=("seeds",),
            ),
            "/api/v1/set": _change(
                "Put other options in force",
                "set",
                {
                    "options": {
                        "type": "object",
                        "description": "by name, as on the command line; a list for what may be repeated",
                        "minProperties": 1,
                    },
                    "host": _or_null("only hosts that this pattern matches"),
                },
                _object({"changed": _texts("a line for each change, old → new")}),
                required=("options",),
            ),
            "/api/v1/block": _change(
                "Fetch nothing more of hosts, or again",
                "block",
                {"hosts": _texts("names, URLs or patterns"), "undo": _flag("fetch of them again")},
                _object({"changed": _texts(""), "ending": {"type": "integer"}}),
                required=("hosts",),
            ),
            "/api/v1/retry": _change(
                "Queue again what ended so in this round",
                "retry",
                {
                    "outcomes": _texts("names of outcomes"),
                    "host": _or_null("only hosts that this pattern matches"),
                },
                _object({"queued": {"type": "integer"}}),
                required=("outcomes",),
            ),
        },
        "components": {
            "schemas": schemas,
            "responses": {
                name: {
                    "description": told,
                    "content": {"application/json": {"schema": _ref("Error")}},
                }
                for name, told in _ERRORS.values()
            },
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "`token` of DIR/coord.json"}
            },
        },
    }


_ERRORS = {
    400: ("Refused", "what was asked makes no sense, and why"),
    401: ("NoToken", "it needs the token"),
    403: ("Forbidden", "asked under another name, or by another web page"),
    404: ("NotFound", "nothing is known of it"),
    413: ("TooLarge", "the body is above 4 MiB"),
    415: ("NoJson", "the body must be application/json"),
    503: ("NotNow", "the crawl cannot do that now"),
}


# -- operations


def _read(
    summary: str,
    name: str,
    schema: _Object,
    *,
    media: str = "application/json",
    query: Mapping[str, _Object] | None = None,
    errors: tuple[int, ...] = (),
) -> _Object:
    operation: _Object = {
        "operationId": name,
        "summary": summary,
        "responses": _responses(schema, media, (401, 403, *errors)),
    }
    if query:
        operation["parameters"] = [
            {"name": key, "in": "query", "required": True, "schema": of} for key, of in query.items()
        ]
    return {"get": operation}


def _file(summary: str, name: str, media: str, path: Mapping[str, _Object] | None = None) -> _Object:
    """What everybody may read."""
    described = _read(summary, name, {"type": "string"}, media=media, errors=(404,) if path else ())
    operation = described["get"]
    operation["security"] = [{}]
    del operation["responses"]["401"]
    if path:
        operation["parameters"] = [
            {"name": key, "in": "path", "required": True, "schema": of} for key, of in path.items()
        ]
    return described


def _change(
    summary: str, name: str, body: Mapping[str, _Object], answer: _Object, *, required: tuple[str, ...] = ()
) -> _Object:
    schema = _object(dict(body), required)
    return {
        "post": {
            "operationId": name,
            "summary": summary,
            "security": [{"token": []}],
            "requestBody": {"required": bool(required), "content": {"application/json": {"schema": schema}}},
            "responses": _responses(answer, "application/json", (400, 401, 403, 413, 415, 503)),
        }
    }


def _responses(schema: _Object, media: str, errors: tuple[int, ...]) -> _Object:
    good = {"description": "so it is", "content": {media: {"schema": schema}}}
    refused = {str(code): {"$ref": f"#/components/responses/{_ERRORS[code][0]}"} for code in errors}
    return {"200": good} | refused


# -- schemas


def _schema(of: Any, schemas: _Object) -> _Object:
    """The schema of a type that JSON can hold; classes go into `schemas`, once."""
    origin, arguments = get_origin(of), get_args(of)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(each, schemas) for each in arguments]}
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0], schemas)}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema(arguments[1], schemas)}
    if isinstance(of, type) and issubclass(of, Enum):
        return {"type": "string", "enum": [each.value for each in of]}
    if is_dataclass(of):
        assert isinstance(of, type)
        if of.__name__ not in schemas:
            schemas[of.__name__] = {}
            hints = get_type_hints(of)
            properties = {each.name: _schema(hints[each.name], schemas) for each in fields(of)}
            needed = tuple(
                each.name
                for each in fields(of)
                if each.default is MISSING and each.default_factory is MISSING
            )
            told = (of.__doc__ or "").partition("\n")[0]
            schemas[of.__name__] = _object(properties, needed) | {"description": told}
        return _ref(of.__name__)
    return {"type": _PLAIN[of]}


_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", types.NoneType: "null"}


def _object(properties: _Object, required: tuple[str, ...] | None = None) -> _Object:
    needed = list(properties) if required is None else list(required)
    return {"type": "object", "properties": properties} | ({"required": needed} if needed else {})


def _ref(name: str) -> _Object:
    return {"$ref": f"#/components/schemas/{name}"}


def _text(told: str) -> _Object:
    return {"type": "string", "description": told}


def _or_null(told: str) -> _Object:
    return {"type": ["string", "null"], "description": told}


def _flag(told: str) -> _Object:
    return {"type": "boolean", "description": told}


def _texts(told: str) -> _Object:
    return {"type": "array", "items": {"type": "string"}, "minItems": 1, "description": told}


def _numbers(told: str) -> _Object:
    return {"type": "array", "items": {"type": "number"}, "description": told}
