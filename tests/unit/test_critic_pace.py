"""The pace of a lane by a provider's headers: it waits for the reset instead of earning refusals."""

import math

import pytest

from critic.drivers.limits import Limits
from critic.working.pace import HOLD_MAX_S, HUNG_MIN_S, USUAL_OF, Pace


def limits(requests_left: int | None, resets_in_s: float | None, tokens_left: int | None = None) -> Limits:
    return Limits(requests_left, tokens_left, 100, resets_in_s, at_s=100.0)


def test_with_nothing_left_it_waits_until_the_reset_and_not_longer_than_a_minute() -> None:
    pace = Pace(50, 1.0, clock=lambda: 101.0)
    pace.obey(limits(0, 6.0), in_flight=0)
    assert pace.held_s() == 5.0
    pace.obey(limits(0, 3600.0), in_flight=0)
    assert pace.held_s() == HOLD_MAX_S - 1.0
    pace.answered(0.2)
    assert pace.held_s() == 0.0


def test_what_is_in_flight_is_taken_off_what_is_left() -> None:
    pace = Pace(50, 1.0, clock=lambda: 100.0)
    pace.obey(limits(9, 2.0), in_flight=8)
    assert pace.held_s() == 0.0
    pace.obey(limits(8, 2.0), in_flight=8)
    assert pace.held_s() == 2.0


def test_spent_tokens_hold_it_and_no_headers_do_not() -> None:
    pace = Pace(50, 1.0, clock=lambda: 100.0)
    pace.obey(None, in_flight=8)
    pace.obey(limits(0, None), in_flight=8)
    assert pace.held_s() == 0.0
    pace.obey(limits(None, 3.0, tokens_left=0), in_flight=0)
    assert pace.held_s() == 3.0


def test_what_takes_five_times_as_long_as_usual_is_taken_for_hung_once_the_usual_is_known() -> None:
    pace = Pace(50, 1.0)
    for _answer in range(USUAL_OF - 1):
        pace.answered(2.0)
    assert pace.hung_after_s() == math.inf
    pace.answered(2.0)
    assert pace.hung_after_s() == pytest.approx(10.0)
    for _answer in range(10 * USUAL_OF):
        pace.answered(0.001)
    assert pace.hung_after_s() == HUNG_MIN_S
