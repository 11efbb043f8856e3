"""The description of the REST interface: a valid OpenAPI document that tells of every route, and tells the truth."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from common.config import CrawlConfig
from coordinator.changing import in_force, with_rule
from coordinator.control import ControlServer
from coordinator.history import History, Totals
from coordinator.openapi import description
from coordinator.status import FailedTry, HostStatus, Phase, SeedEnd, Status, Waiting, WorkerStatus


class Nothing:
    """Steers nothing: only routes are looked at."""

    def status(self) -> Status:
        return Status(phase=Phase.RUNNING, directory="c")

    def history(self) -> dict[str, Any]:
        return {}


def described(path: str, method: str = "get", status: str = "200") -> dict[str, Any]:
    """The schema of an answer, with what it refers to."""
    document = description()
    [media] = document["paths"][path][method]["responses"][status]["content"].values()
    schema: dict[str, Any] = media["schema"] | {"components": document["components"]}
    return schema


def valid(content: object, schema: dict[str, Any]) -> None:
    # JSON pointers of the document work as they are, for `components` stands at the top.
    OAS31Validator(schema).validate(json.loads(json.dumps(content)))


def test_it_is_valid_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(description()).validate()


async def test_every_route_is_described_and_no_other() -> None:
    server = ControlServer(Nothing(), "token")  # type: ignore[arg-type]  # it is not asked
    routes = {
        (route.resource.canonical, route.method.lower())
        for route in server.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    await server.close()
    told = {(path, method) for path, methods in description()["paths"].items() for method in methods}
    assert told == routes
    assert len(routes) >= 12


def test_every_change_needs_the_token_and_a_body() -> None:
    for path, methods in description()["paths"].items():
        for method, operation in methods.items():
            changes = method == "post"
            assert (operation.get("security") == [{"token": []}]) == changes, path
            assert ("requestBody" in operation) == changes, path
            anybody = operation.get("security") == [{}]
            assert anybody == (not path.startswith(("/api/", "/metrics")))
            assert operation["responses"].keys() >= {"200", "403"} | (set() if anybody else {"401"})


def test_a_status_is_what_is_described() -> None:
    status = Status(
        phase=Phase.RUNNING,
        directory="c",
        outcomes={"OK": 1},
        workers=(WorkerStatus("a", 1),),
        waiting=(Waiting("robots", "...", 1, 2.5, ("a.test",)),),
        recent_errors=(FailedTry("2026-05-01T12:00:00.000Z", "https://a.test/", "DNS"),),
        long_queues=(HostStatus("a.test"),),
        seed_ends=(SeedEnd("a", "DNS"),),
        eta_seconds=None,
        exit_code=3,
    )
    valid(status.to_json(), described("/api/v1/status"))
    schema = description()["components"]["schemas"]["Status"]
    assert set(schema["properties"]) == {each.name for each in fields(Status)}
    assert schema["required"] == ["phase", "directory"]
    with pytest.raises(Exception, match="is not of type"):
        valid(status.to_json() | {"pages": "many"}, described("/api/v1/status"))


def test_options_are_what_is_described() -> None:
    config = with_rule(CrawlConfig(header=("Cookie: a=b",)), "*.test", {"delay": "2"}, running=True)
    told = in_force(config)
    valid(told, described("/api/v1/options"))
    assert told["options"]["header"] == ["Cookie: ***"]
    assert (told["options"]["delay"], told["hosts"]) == (1.0, [{"match": "*.test", "delay": 2.0}])


def test_a_history_is_what_is_described() -> None:
    history = History()
    for second in range(3):
        history.note(Totals(second, second, 1, 2, {"OK": second}), second, second)
    valid(history.to_json(), described("/api/v1/history"))
