"""What a judgement costs, in US dollars: a table with dates, the team's own file before the shipped one.

Flow: critic/spending/prices.toml and LOWLIGHT_PRICES -> `load_prices` -> `Prices.of` -> `Price.cost_usd`
(what was used) and `Price.at_most_usd` (what could be used, reserved before the request). A price that is in
neither file is unknown: None, never 0.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ingest.errors import BadSettings

SHIPPED = Path(__file__).parent / "prices.toml"
PER = 1_000_000
#: Hosts whose prices are those of a provider that has a name.
_PROVIDERS = {"api.openai.com": "openai", "api.anthropic.com": "anthropic"}
#: What stands behind a model's name where a provider names the snapshot: -2026-10-01, -20251001, -latest.
_SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|latest)$")

_Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Price(BaseModel):
    """One row: US dollars per million tokens of one model, from one day on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: str = Field(min_length=1)
    model: str = Field(min_length=1)
    valid_from: date
    input: _Usd
    output: _Usd
    cached_input: _Usd | None = None
    cache_write: _Usd | None = None
    long_from_tokens: int | None = Field(None, ge=1)
    long_input_factor: float = Field(1.0, ge=1)
    long_output_factor: float = Field(1.0, ge=1)
    batch_factor: float = Field(1.0, gt=0, le=1)
    source: str = ""

    def is_of(self, provider: str, model: str) -> bool:
        """Whether this row prices a model of a provider, as configured or as reported."""
        if provider != self.provider:
            return False
        if "*" in self.model:
            return fnmatchcase(model, self.model)
        return model == self.model or _SNAPSHOT.sub("", model) == self.model

    @property
    def free(self) -> bool:
        """Whether nothing is ever charged."""
        return self.input == 0 and self.output == 0 and not self.cache_write

    def cost_usd(
        self,
        input_tokens: int,
        cached_input_tokens: int | None,
        output_tokens: int,
        *,
        cache_write_tokens: int | None = None,
        requests: float = 1,
    ) -> float:
        """Return what was charged for these tokens.

        Args:
            input_tokens: all of them, the cached ones among them.
            cached_input_tokens: None where the provider does not say, which is taken for none.
            cache_write_tokens: likewise; they are among `input_tokens` and not among the cached ones.
            requests: how many requests the tokens are of, so that each is measured against the longer price
                by itself; a part of one (a rubric's share) is a fraction.
        """
        cached = min(max(cached_input_tokens or 0, 0), input_tokens)
        cached_price = self.input if self.cached_input is None else self.cached_input
        written = min(max(cache_write_tokens or 0, 0), input_tokens - cached)
        write_price = self.input if self.cache_write is None else self.cache_write
        is_long = self.long_from_tokens is not None and input_tokens / requests > self.long_from_tokens
        factor_in, factor_out = (self.long_input_factor, self.long_output_factor) if is_long else (1.0, 1.0)
        fresh = input_tokens - cached - written
        usd_in = (fresh * self.input + cached * cached_price + written * write_price) * factor_in
        return (usd_in + output_tokens * self.output * factor_out) / PER

    def at_most_usd(self, input_tokens: int, output_tokens: int) -> float:
        """Return no less than these tokens can cost: nothing cached, all of it written to the cache."""
        dearest = max(self.input, self.cached_input or 0.0, self.cache_write or 0.0)
        is_long = self.long_from_tokens is not None and input_tokens > self.long_from_tokens
        factor_in, factor_out = (self.long_input_factor, self.long_output_factor) if is_long else (1.0, 1.0)
        return (input_tokens * dearest * factor_in + output_tokens * self.output * factor_out) / PER


class Prices:
    """The price table: the team's rows go before the shipped ones, newer ones before older."""

    def __init__(self, own: Sequence[Price], shipped: Sequence[Price]) -> None:
        newest_first = [sorted(rows, key=lambda row: row.valid_from, reverse=True) for rows in (own, shipped)]
        self._rows = [row for rows in newest_first for row in rows]
        self._found: dict[tuple[str, str | None, date], Price | None] = {}

    def of(self, critic: str, model_reported: str | None, at_ms: int) -> Price | None:
        """Return what a critic's model cost at a time; None where that is unknown.

        Args:
            critic: as configured, "openai:gpt-6-luna".
            model_reported: what the provider said answered; where its price is not known, that of the
                configured model holds.
        """
        on = datetime.fromtimestamp(at_ms / 1000, UTC).date()
        key = (critic, model_reported, on)
        if key not in self._found:
            if len(self._found) > 1000:  # a provider that names a new model each time fills no memory
                self._found.clear()
            self._found[key] = self._of(critic, model_reported, on)
        return self._found[key]

    def _of(self, critic: str, model_reported: str | None, on: date) -> Price | None:
        provider, model = provider_and_model(critic)
        for name in (model_reported, model):
            for row in self._rows:
                if name and row.valid_from <= on and row.is_of(provider, name):
                    return row
        return None


def provider_and_model(critic: str) -> tuple[str, str]:
    """Return ("openai", "gpt-6-luna") for "openai:gpt-6-luna"; the host and model of one named by address."""
    kind, _, of_what = critic.partition(":")
    url, hash_, model = of_what.rpartition("#")
    if not hash_:
        return kind, of_what
    host = urlsplit(url).hostname or kind
    return _PROVIDERS.get(host, host), model


def cost_usd(
    critic: str,
    model_reported: str | None,
    input_tokens: int | None,
    cached_input_tokens: int | None,
    output_tokens: int | None,
    at_ms: int,
    *,
    prices: Prices | None = None,
    cache_write_tokens: int | None = None,
    requests: float = 1,
) -> float | None:
    """Return what one answer cost; None where its price or tokens are unknown. The local critic is free."""
    if critic == "local":
        return 0.0
    price = (shipped_prices() if prices is None else prices).of(critic, model_reported, at_ms)
    if price is None:
        return None
    if price.free:
        return 0.0
    if input_tokens is None or output_tokens is None:
        return None
    return price.cost_usd(
        input_tokens,
        cached_input_tokens,
        output_tokens,
        cache_write_tokens=cache_write_tokens,
        requests=requests,
    )


def load_prices(own: Path | None) -> Prices:
    """Return the shipped prices, with the team's own file before them.

    Raises:
        BadSettings: LOWLIGHT_PRICES names a file that cannot be read or says something else than prices.
    """
    if own is None:
        return shipped_prices()
    try:
        sent = tomllib.loads(own.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSettings(
            f"LOWLIGHT_PRICES: {own} cannot be read ({error.strerror}); name a TOML file like {SHIPPED.name}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"LOWLIGHT_PRICES: {own} is no TOML: {error}") from None
    return Prices(_rows(sent, f"LOWLIGHT_PRICES: {own}"), _shipped_rows())


@cache
def shipped_prices() -> Prices:
    """Return the prices that Lowlight comes with."""
    return Prices((), _shipped_rows())


@cache
def _shipped_rows() -> tuple[Price, ...]:
    return tuple(_rows(tomllib.loads(SHIPPED.read_text(encoding="utf-8")), SHIPPED.name))


def _rows(sent: Mapping[str, object], where: str) -> list[Price]:
    rows = sent.get("price")
    if not isinstance(rows, list) or set(sent) != {"price"}:
        raise BadSettings(
            f"{where}: holds [[price]] tables and nothing else; critic/spending/prices.toml shows the form"
        )
    prices = []
    for place, row in enumerate(rows, start=1):
        try:
            prices.append(Price.model_validate(row))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "it"
            raise BadSettings(f"{where}: [[price]] number {place}: {field}: {first['msg']}") from None
    return prices
