"""What a route asks for: the store, the settings, the OTLP intake. `api.app` puts them into `app.state`."""

from typing import Annotated

from fastapi import Depends, Request

from ingest.otlp.intake import OtlpIntake
from ingest.settings import Settings
from ingest.store import Store

# Coroutines, although nothing waits: FastAPI sends plain functions to a thread.


async def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _otlp(request: Request) -> OtlpIntake:
    otlp: OtlpIntake = request.app.state.otlp
    return otlp


StoreDep = Annotated[Store, Depends(_store)]
SettingsDep = Annotated[Settings, Depends(_settings)]
OtlpDep = Annotated[OtlpIntake, Depends(_otlp)]
