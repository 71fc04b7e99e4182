"""How many judgements one critic gets at once, and how long a failed one waits.

Flow: critic.working.lane tells each answer or failure, and what the provider's headers say is left -> `Pace`
-> `limit`, `wait_s`, `held_s`. Pure but for the clock.
"""

import math
import random
import time
from collections.abc import Callable

from critic.drivers.limits import Limits

#: The first round starts this wide; every answer widens it by one, so a round doubles it.
LIMIT_AT_FIRST = 8
WAIT_MAX_S = 300.0
#: What is left of the width after a round with a refusal.
FALL = 0.7
#: After so many rounds without one answer nothing is sent for a while, whatever waits.
ROUNDS_IN_VAIN_MAX = 5
HOLD_MAX_S = 60.0
#: An answer that takes so many times as long as usual, and at least this long, is taken for hung.
HUNG_FACTOR = 5.0
HUNG_MIN_S = 1.0
#: "As usual" is the mean of about so many answers, and is known from the first so many on.
USUAL_OF = 50


class Pace:
    """Grows with every answer, falls by three tenths once a round when the provider gives none.

    A round is what was sent since the limit last fell: a hundred refusals of the same moment count once. The
    fall is CUBIC's (RFC 9438): halving would keep the width at two thirds where a few requests in a hundred
    are refused by chance.
    """

    def __init__(
        self, limit_max: int, retry_s: float, *, clock: Callable[[], float] = time.monotonic, seed: int = 0
    ) -> None:
        self._limit_max = limit_max
        self._limit = min(LIMIT_AT_FIRST, limit_max)
        self._retry_s = retry_s
        self._clock = clock
        self._random = random.Random(seed)  # noqa: S311  (jitter, no secret)
        self._fell_at = clock()
        self._in_vain = 0
        self._held_until = 0.0
        self._usual_s = 0.0
        self._answers = 0

    @property
    def limit(self) -> int:
        """How many may be in flight now, at least 1."""
        return self._limit

    def held_s(self) -> float:
        """Return for how many seconds nothing is to be sent; 0 where something may."""
        return max(0.0, self._held_until - self._clock())

    def hung_after_s(self) -> float:
        """Return after how many seconds without an answer a judgement no longer keeps others from its slot.

        It is waited for up to the time limit all the same. Infinite while too few answers have come to tell.
        """
        return max(HUNG_MIN_S, HUNG_FACTOR * self._usual_s) if self._answers >= USUAL_OF else math.inf

    def answered(self, took_s: float) -> None:
        """The provider answered, be it with a refusal."""
        self._answers += 1
        self._usual_s += (took_s - self._usual_s) / min(self._answers, USUAL_OF)
        self._in_vain = 0
        self._held_until = 0.0
        self._limit = min(self._limit_max, self._limit + 1)

    def not_answered(self, started_at: float) -> None:
        """The provider did not answer a judgement that was sent at `started_at` of the clock."""
        if started_at < self._fell_at:
            return
        self._limit = max(1, int(self._limit * FALL))
        self._fell_at = self._clock()
        self._in_vain += 1
        if self._in_vain >= ROUNDS_IN_VAIN_MAX:
            held_s = self._retry_s * 2.0 ** (self._in_vain - ROUNDS_IN_VAIN_MAX)
            self._held_until = self._fell_at + min(held_s, HOLD_MAX_S)

    def obey(self, limits: Limits | None, in_flight: int) -> None:
        """Wait for the reset where the provider's headers leave no request for what is not yet sent.

        Sending on would only earn refusals. What is in flight may not be counted in what is left, so that
        much is taken off.

        Args:
            limits: what the last answer's headers said; `at_s` is of the clock.
            in_flight: judgements sent and not answered.
        """
        if limits is None or limits.resets_in_s is None:
            return
        out_of_requests = limits.requests_left is not None and limits.requests_left <= in_flight
        if limits.spent or out_of_requests:
            until = limits.at_s + min(limits.resets_in_s, HOLD_MAX_S)
            self._held_until = max(self._held_until, until)

    def start_over(self) -> None:
        """After a pause one judgement asks whether the provider answers again."""
        self._limit = 1

    def wait_s(self, attempts: int, retry_after_s: float | None) -> float:
        """Return how long a failed judgement waits: what the provider said, or longer as failures repeat.

        The wait doubles from `retry_s` up to five minutes, of which the last half is random, so that what
        failed together does not come back together.
        """
        repeated = min(max(attempts, self._in_vain, 1) - 1, 30)
        backoff_s = min(self._retry_s * 2.0**repeated, WAIT_MAX_S) * self._random.uniform(0.5, 1.0)
        return max(backoff_s, retry_after_s or 0.0)
