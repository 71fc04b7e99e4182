"""Intake over HTTP, against a real server process on a real database."""

import httpx2 as httpx


def test_a_repeated_id_is_kept_once(service_url: str) -> None:
    """A client that retries after a lost answer must not double the call."""
    call = {"id": "repeated", "model": "m", "input": "2+2?", "output": "4", "latency_ms": 812.5}
    first = httpx.post(f"{service_url}/v1/calls", json={"calls": [call, call]}).json()
    again = httpx.post(f"{service_url}/v1/calls", json={"calls": [call]}).json()
    assert (first["accepted"], first["duplicates"]) == (1, 1)
    assert (again["accepted"], again["duplicates"]) == (0, 1)
