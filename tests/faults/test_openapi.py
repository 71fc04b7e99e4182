"""The OpenAPI document is true: Schemathesis sends what it allows and what it forbids to a real server.

Checked for each route: no 500, a documented status, a documented type, a body of the documented shape.
"""

import httpx2 as httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def stocked_url(service_url: str) -> str:
    """The module's server with a few calls, signals and labels to answer with."""
    calls = [
        {
            "id": f"c{i}",
            "latency_ms": 100.0 + i,
            "session_id": f"s{i % 7}",
            "user_id": f"u{i % 5}",
            "output": "x",
        }
        for i in range(60)
    ]
    signals = [{"call_id": f"c{i}", "kind": "thumbs_down"} for i in range(0, 60, 9)]
    labels = [{"call_id": "c1", "rubric": "tone", "level": 2, "labeller": "ada"}]
    for what, items in (("calls", calls), ("signals", signals), ("labels", labels)):
        assert httpx.post(f"{service_url}/v1/{what}", json={what: items}).json()["accepted"] == len(items)
    return service_url


@pytest.mark.parametrize("examples", [4, pytest.param(150, marks=pytest.mark.long)])
@pytest.mark.parametrize("mode", GenerationMode)
def test_every_route_is_as_documented(stocked_url: str, examples: int, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_dict(httpx.get(f"{stocked_url}/openapi.json").json())
    found: dict[str, str] = {}
    routes = 0
    for each in schema.get_all_operations():
        operation = each.ok()
        if mode is GenerationMode.NEGATIVE and not (operation.body or list(operation.iter_parameters())):
            continue  # nothing to send wrong
        routes += 1

        @settings(
            max_examples=examples,
            database=None,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def send(case: schemathesis.Case) -> None:
            case.call_and_validate(base_url=stocked_url, checks=CHECKS, timeout=60)

        try:
            send()
        except Unsatisfiable:
            continue  # any text at all is a call's id
        except (Exception, BaseExceptionGroup) as error:
            found[operation.label] = str(error)[:2000]
    assert found == {}, "\n\n".join(f"{label}: {words}" for label, words in found.items())
    assert routes >= 20
    with httpx.Client(base_url=stocked_url) as client:
        assert client.get("/readyz").json()["ready"]
