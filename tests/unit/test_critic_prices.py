"""Prices: dates, snapshots, cached and long requests, the team's own file; an unknown price is never 0."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critic.spending.prices import Price, cost_usd, load_prices, provider_and_model, shipped_prices
from ingest.errors import BadSettings


def at(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)


NOW = at("2026-11-01")
LUNA = "openai:gpt-6-luna"


def test_cached_input_costs_its_own_price() -> None:
    assert cost_usd(LUNA, None, 100_000, 0, 0, NOW) == pytest.approx(0.010)
    assert cost_usd(LUNA, None, 100_000, 60_000, 10_000, NOW) == pytest.approx(
        (40_000 * 0.10 + 60_000 * 0.01 + 10_000 * 0.50) / 1e6
    )
    assert cost_usd(LUNA, None, 100_000, 60_000, 0, NOW, cache_write_tokens=30_000) == pytest.approx(
        (10_000 * 0.10 + 60_000 * 0.01 + 30_000 * 0.125) / 1e6
    )


def test_a_price_holds_from_its_day_until_the_next_one() -> None:
    critic = "openai:gpt-5.6-luna"
    before, on = (cost_usd(critic, None, 100_000, 0, 0, at(day)) for day in ("2026-07-29", "2026-07-30"))
    assert (before, on) == (pytest.approx(0.10), pytest.approx(0.02))
    assert cost_usd(critic, None, 1_000_000, 0, 0, at("2026-07-01")) is None, "nobody knows what it cost then"


def test_a_reported_snapshot_has_the_price_of_its_model_and_a_longer_name_has_not() -> None:
    assert cost_usd("openai:gpt-5", "gpt-5-2025-08-07", 1_000_000, 0, 0, NOW) == pytest.approx(1.25)
    assert cost_usd("openai:gpt-5-mini", None, 1_000_000, 0, 0, NOW) == pytest.approx(0.25)
    assert cost_usd("openai:gpt-5-maxi", None, 1_000_000, 0, 0, NOW) is None
    assert cost_usd("openai:gpt-5", "gpt-5-nano", 1_000_000, 0, 0, NOW) == pytest.approx(0.05), (
        "what answered"
    )
    assert cost_usd("openai:gpt-5", "a-name-of-a-gateway", 1_000_000, 0, 0, NOW) == pytest.approx(1.25)


def test_an_unknown_price_or_usage_is_unknown_and_never_zero() -> None:
    assert cost_usd("openai:gpt-99", "gpt-99", 10, 0, 10, NOW) is None
    assert cost_usd(LUNA, None, None, None, None, NOW) is None
    assert cost_usd("local", "shipped", None, None, None, NOW) == 0.0


def test_a_long_request_costs_the_longer_price_and_its_parts_sum_to_it() -> None:
    price = shipped_prices().of(LUNA, None, NOW)
    assert price is not None
    whole = price.cost_usd(300_000, 0, 400)
    assert whole == pytest.approx((300_000 * 0.20 + 400 * 0.75) / 1e6)
    assert 4 * price.cost_usd(75_000, 0, 100, requests=1 / 4) == pytest.approx(whole)
    assert price.cost_usd(300_000, 0, 400, requests=3) < whole, "three requests of 100,000 are not long"


@given(
    input_tokens=st.integers(0, 2_000_000),
    cached_share=st.floats(0, 1),
    written_share=st.floats(0, 1),
    output_tokens=st.integers(0, 100_000),
    less=st.floats(0, 1),
)
def test_what_is_reserved_is_never_less_than_what_is_charged(
    input_tokens: int, cached_share: float, written_share: float, output_tokens: int, less: float
) -> None:
    """For every shipped price, whatever part of the bound was used and however it was cached."""
    for critic in (LUNA, "anthropic:claude-haiku-5-5", "anthropic:claude-sonnet-4-5", "openai:gpt-4o"):
        price = shipped_prices().of(critic, None, NOW)
        assert price is not None
        used = int(input_tokens * less)
        cost = price.cost_usd(
            used,
            int(used * cached_share),
            int(output_tokens * less),
            cache_write_tokens=int(used * written_share),
        )
        assert cost <= price.at_most_usd(input_tokens, output_tokens) + 1e-12


OWN = """
[[price]]
provider = "openai"
model = "gpt-6-luna"
valid_from = 2026-10-01
input = 0.07
output = 0.0

[[price]]
provider = "gpu.example"
model = "*"
valid_from = 2020-01-01
input = 0
output = 0
"""


def test_a_file_of_ones_own_goes_before_the_shipped_prices(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(OWN)
    prices = load_prices(path)
    assert cost_usd(LUNA, None, 1_000_000, 0, 5, NOW, prices=prices) == pytest.approx(0.07)
    before_own = at("2026-09-25")
    assert cost_usd(LUNA, None, 100_000, 0, 0, before_own, prices=prices) == pytest.approx(0.010)
    mine = "systemone:http://gpu.example:8000/v1#any-model"
    assert cost_usd(mine, "any-model", None, None, None, NOW, prices=prices) == 0.0, "a price of 0 is known"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense = [", "no TOML"),
        ("other = 1", "[[price]] tables"),
        ('[[price]]\nprovider = "x"\nmodel = "y"\nvalid_from = 2026-01-01\ninput = -1\noutput = 0', "input"),
        ('[[price]]\nprovider = "x"\nmodel = "y"\nvalid_from = 2026-01-01\ninput = 1', "output"),
        ('[[price]]\nprovider = "x"\nmodel = "y"\nvalid_from = 2026-01-01\ninput = nan\noutput = 1', "input"),
        (
            '[[price]]\nprovider = "x"\nmodel = "y"\nvalid_from = 2026-01-01\ninput = 1\noutput = 1\nper = 1',
            "per",
        ),
    ],
)
def test_a_price_file_that_cannot_be_used_is_named_with_its_field(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(BadSettings, match="LOWLIGHT_PRICES") as refused:
        load_prices(path)
    assert said in str(refused.value)
    with pytest.raises(BadSettings, match=r"missing\.toml cannot be read"):
        load_prices(tmp_path / "missing.toml")


def test_every_shipped_price_names_where_it_was_read() -> None:
    rows: list[Price] = list(shipped_prices()._rows)
    assert all(row.source.startswith("https://") for row in rows)
    assert len({(row.provider, row.model, row.valid_from) for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("critic", "expected"),
    [
        ("openai:gpt-6-luna", ("openai", "gpt-6-luna")),
        ("chat-logprobs:https://api.openai.com/v1#gpt-5", ("openai", "gpt-5")),
        ("systemone:https://openrouter.ai/api/v1#typesafe/jev", ("openrouter.ai", "typesafe/jev")),
        ("local", ("local", "")),
    ],
)
def test_a_critic_named_by_its_address_has_the_prices_of_its_host(
    critic: str, expected: tuple[str, str]
) -> None:
    assert provider_and_model(critic) == expected
