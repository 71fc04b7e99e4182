"""A call's id may hold whatever stands after an id in an address: the whole id is tried first."""

from pathlib import Path
from urllib.parse import quote

import httpx2 as httpx

from ingest.settings import Settings
from tests.warm import background

IDS = ("z", "z/alike", "z/explain", "z/scores/tone")


def test_an_id_that_ends_as_an_address_does_is_read_whole(settings: Settings, tmp_path: Path) -> None:
    sent = [{"id": call_id, "input": "Where?", "output": "Here."} for call_id in IDS]
    served = settings.model_copy(update={"port": 0})
    with (
        background(served, log_path=tmp_path / "server.log") as address,
        httpx.Client(base_url=address) as web,
    ):
        assert web.post("/v1/calls", json={"calls": sent}).is_success
        for call_id in IDS:
            at = quote(call_id, safe="")
            assert web.get(f"/v1/calls/{at}").json()["call"]["id"] == call_id
            assert web.get(f"/calls/{at}.json").json()["call"]["id"] == call_id
            page = web.get(f"/calls/{at}")
            assert f"{call_id} · Lowlight" in page.text, page.url
        for call_id in ("z/alike", "z/explain"):  # and what is asked of such a call is its own
            at = quote(call_id, safe="")
            assert web.get(f"/v1/calls/{at}/alike").json()["n_bad"] == 0
            assert web.get(f"/calls/{at}/alike.json").json()["call"]["id"] == call_id
