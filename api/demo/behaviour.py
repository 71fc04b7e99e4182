"""How the demo's models and people behave: how long answers take, what they cost, who presses which thumb.

The models, their speeds and their prices are invented. Latencies are milliseconds, prices US dollars.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

#: Characters a token, about what English takes.
CHARS_PER_TOKEN = 4.1
#: What the application's limit for one answer is.
TIMEOUT_MS = 30_000.0
#: The sliding window of doc-summary: a document beyond it is read in several passes, the last one wins.
WINDOW_TOKENS = 9_800


@dataclass(frozen=True)
class Model:
    """One invented model: medians of a log-normal, prices a million tokens (None: not in the price list)."""

    name: str
    provider: str
    first_token_ms: float
    token_ms: float
    input_usd: float | None
    output_usd: float | None


AURORA = Model("aurora-2", "aurora", 460.0, 15.0, 2.50, 10.0)
AURORA_MINI = Model("aurora-2-mini", "aurora", 250.0, 7.5, 0.25, 1.0)
PEREGRINE = Model("peregrine-large", "peregrine", 690.0, 21.0, None, None)

#: Which models answer which prompt, and in which share.
MODELS: dict[str, tuple[tuple[Model, float], ...]] = {
    "support-answer": ((AURORA, 0.7), (AURORA_MINI, 0.3)),
    "doc-summary": ((PEREGRINE, 0.7), (AURORA, 0.3)),
    "reply-draft": ((AURORA, 0.55), (AURORA_MINI, 0.45)),
    "welcome-chat": ((AURORA_MINI, 1.0),),
}


def model_for(source: random.Random, prompt: str) -> Model:
    """Return the model that answers this call."""
    models = MODELS[prompt]
    return source.choices([model for model, _ in models], [share for _, share in models])[0]


def tokens_of(text: str) -> int:
    """Return about how many tokens a text has."""
    return max(1, round(len(text) / CHARS_PER_TOKEN))


def cost_usd(model: Model, input_tokens: int, output_tokens: int) -> float | None:
    """Return the price of a call; None for a model that the price list lacks."""
    if model.input_usd is None or model.output_usd is None:
        return None
    return round((input_tokens * model.input_usd + output_tokens * model.output_usd) / 1e6, 7)


def timing(source: random.Random, model: Model, input_tokens: int, output_tokens: int) -> tuple[float, float]:
    """Return (to the first token, in all): log-normal, with one call in seventy caught in a queue."""
    first = source.lognormvariate(0, 0.33) * model.first_token_ms + input_tokens * 0.06
    if source.random() < 1 / 70:
        first *= source.uniform(3.0, 9.0)
    if input_tokens > WINDOW_TOKENS:
        passes = input_tokens // 3_000
        first += sum(source.lognormvariate(0, 0.3) * 5_200 for _ in range(passes))
    return round(first, 1), round(first + output_tokens * model.token_ms * source.lognormvariate(0, 0.2), 1)


def failure(source: random.Random) -> dict[str, Any] | None:
    """Return how a call failed, one in 110: timed out, or refused for its rate after all retries."""
    draw = source.random()
    if draw < 0.006:
        return {
            "error": {"type": "timeout", "message": "no answer within 30 s"},
            "latency_ms": TIMEOUT_MS + round(source.uniform(2, 40), 1),
            "retries": source.choice((0, 1)),
        }
    if draw < 0.009:
        return {
            "error": {"type": "rate_limit", "message": "429 Too Many Requests after 3 retries"},
            "latency_ms": round(source.uniform(4_200, 9_500), 1),
            "retries": 3,
        }
    return None


#: How often something goes wrong with an answer that no trouble explains.
FLAWS = (
    ("truncated", 0.004),
    ("refusal", 0.003),
    ("off_topic", 0.003),
    ("repeated", 0.0015),
    ("empty", 0.0015),
)


def flaw(source: random.Random) -> str | None:
    """Return the natural flaw of an answer, one in 75; None for most."""
    draw = source.random()
    for kind, share in FLAWS:
        draw -= share
        if draw < 0:
            return kind
    return None


def flawed(source: random.Random, kind: str, answer: str, other: str) -> str:
    """Return the answer as the flaw leaves it; `other` is an answer to something else."""
    words = answer.split()
    if kind == "truncated":
        return " ".join(words[: max(4, int(len(words) * source.uniform(0.35, 0.7)))]).rstrip(".,")
    if kind == "repeated":
        first = answer.split(". ")[0].rstrip(".") + "."
        return " ".join([first] * 6)
    if kind == "refusal":
        return "I'm sorry, but I can't help with that request."
    return "" if kind == "empty" else other


@dataclass(frozen=True)
class Reaction:
    """What somebody did about an answer: its kind, how long after it, and whether words belong to it."""

    kind: str
    after_s: float
    with_comment: bool = False


def reactions(source: random.Random, prompt: str, *, bad: bool) -> Iterator[Reaction]:
    """Yield the signals of one answered call: thumbs on one in eight, mostly up unless it went wrong."""
    if source.random() < (0.24 if bad else 0.11):
        down = source.random() < (0.88 if bad else 0.05)
        # One voter in six comes back to it days later.
        late = source.random() < 1 / 6
        after = source.uniform(86_400, 3 * 86_400) if late else source.lognormvariate(3.2, 0.8)
        yield Reaction("thumbs_down" if down else "thumbs_up", after, source.random() < 0.2)
    if bad:
        if source.random() < 0.16:
            yield Reaction("regenerate", source.uniform(3, 30))
        if source.random() < 0.07:
            yield Reaction("escalate", source.uniform(20, 240))
        if source.random() < 0.08:
            yield Reaction("abandon", source.uniform(15, 90))
    else:
        if source.random() < (0.38 if prompt == "reply-draft" else 0.05):
            yield Reaction("copy", source.uniform(5, 60))
        if source.random() < 0.012:
            yield Reaction("regenerate", source.uniform(4, 40))
