"""A week of Crumbline's calls and signals, always the same for the same week and seed.

Flow: people x texts x behaviour -> `Traffic` (plain keyword arguments of the SDK's `record` and `signal`)
-> `api.demo.sending`. Three troubles are planted in it: documents longer than the sliding window get answers
about their last part, cut off and slow; from Wednesday on support-answer v12 answers people who do not write
English in English; the welcome chat is rude to some people on their first day. A fourth was there five weeks
before and is gone: reply-draft v6 repeated itself, until v7.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from api.demo import behaviour
from api.demo.documents import upload
from api.demo.people import Person, known_people, new_people
from api.demo.texts import Turn, Writer, written

DAY_MS = 86_400_000
#: Calls a whole run sends, about: two thin weeks, then the main one.
CALLS = 2_000
#: Wednesday 09:00 of the main week: from here on v12 answers those who try it.
ROLLOUT_MS = 2 * DAY_MS + 9 * 3_600_000
#: A week's figures are held against the four weeks before it; what was fixed lies before those.
FIXED_WEEKS_BEFORE = 5
#: Friday 09:00 five weeks before: from here on reply-draft v7, which does not repeat itself.
REPAIRED_MS = 4 * DAY_MS + 9 * 3_600_000
VERSIONS = {"support-answer": "v11", "doc-summary": "v4", "reply-draft": "v7", "welcome-chat": "v3"}
#: Share of the main week's calls; welcome-chat has as many as the newcomers make.
SHARES = {"doc-summary": 0.20, "reply-draft": 0.13, "support-answer": 0.48}
#: When bakers are at a screen: after the night's baking and at the desk.
HOURS = (1, 1, 2, 4, 6, 7, 6, 5, 5, 6, 8, 9, 8, 8, 9, 9, 8, 7, 6, 4, 3, 2, 1, 1)
WEEKDAYS = (1.1, 1.1, 1.0, 1.0, 1.1, 0.9, 0.5)


TROUBLES = ("long_document", "wrong_language", "rude")


@dataclass
class Traffic:
    """What is sent, in the order of the calls' times.

    Attributes:
        calls: keyword arguments of `lowlight.Client.record`.
        early: keyword arguments of `lowlight.Client.signal`, sent before the calls they name.
        signals: likewise, sent after them.
        planted: call id -> what is wrong with its answer: long_document, wrong_language, rude, or a natural
            flaw (truncated, refusal, off_topic, repeated, empty). Never sent; for tests.
    """

    calls: list[dict[str, Any]] = field(default_factory=list)
    early: list[dict[str, Any]] = field(default_factory=list)
    signals: list[dict[str, Any]] = field(default_factory=list)
    planted: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Asked:
    """One turn before the model answered it."""

    turn: Turn
    trouble: str | None = None
    wrong_answer: str = ""


def demo_traffic(
    week: str,
    since_ms: int,
    now_ms: int,
    *,
    seed: int = 1,
    calls: int = CALLS,
    with_week_before: bool = True,
) -> Traffic:
    """Return the traffic of the ended week from `since_ms` on, of two thin ones before and a little after.

    Args:
        week: its id, "2026-W46"; ids of calls carry it.
        since_ms: its Monday 00:00, milliseconds since 1970.
        now_ms: only whole days that ended before it are filled in the week after.
        calls: about how many in all; every count shrinks with it.
        with_week_before: False where the weeks before have their own traffic already, from an earlier run.
    """
    people = random.Random(f"{seed}:people")
    known = known_people(people, max(12, round(calls * 0.105)))
    traffic = Traffic()
    if with_week_before:
        earlier = _Part(
            f"{seed}:{week}:earlier", fixed_week_ms(since_ms), f"demo-{week.lower()}-a", repeats=True
        )
        before = _Part(f"{seed}:{week}:before", since_ms - 7 * DAY_MS, f"demo-{week.lower()}-b")
        long_known = [person for person in known if not person.recent][::2]
        for person in known:
            (earlier if person in long_known else before).plan_first_visit(person)
        earlier.plan_drafts(long_known, round(calls * 0.03))
        earlier.into(traffic)
        before.into(traffic)

    main = _Part(f"{seed}:{week}:main", since_ms, f"demo-{week.lower()}-", troubled=True)
    newcomers = new_people(main.source, max(6, round(calls * 0.062)), week)
    main.plan_week(known, newcomers, round(calls * 0.83))
    main.into(traffic)

    until_ms = since_ms + 7 * DAY_MS
    for day in range(min(7, max(0, (now_ms - until_ms) // DAY_MS))):
        name = f"demo-{week.lower()}-d{day}-"
        after = _Part(f"{seed}:{week}:after:{day}", until_ms + day * DAY_MS, name, troubled=True, days=1)
        after.plan_some(known, max(1, calls // 200))
        after.into(traffic)
    return traffic


def fixed_week_ms(since_ms: int) -> int:
    """Return the Monday 00:00 of the week whose trouble was fixed."""
    return since_ms - FIXED_WEEKS_BEFORE * 7 * DAY_MS


def first_call_id(week: str) -> str:
    """Return the id of the first call of a week's main traffic: whoever has it has run the demo for it."""
    return f"demo-{week.lower()}-0001"


class _Part:
    """A stretch of days: conversations are planned, then numbered by time and written out."""

    def __init__(
        self,
        seed: str,
        since_ms: int,
        prefix: str,
        *,
        troubled: bool = False,
        repeats: bool = False,
        days: int = 7,
    ) -> None:
        self.source = random.Random(seed)
        self._since_ms = since_ms
        self._prefix = prefix
        self._troubled = troubled
        self._repeats = repeats
        self._days = days
        self._planned: list[tuple[int, str, Person, list[_Asked]]] = []

    def plan_first_visit(self, person: Person) -> None:
        """One conversation, so that the person is known later on."""
        turns = 1 if self.source.random() < 0.68 else 2
        draw = self.source.random()
        if person.recent:
            self._plan_welcome(person, self._moment(self.source.randrange(self._days)), turns)
        elif draw < 0.65:
            self._plan("support-answer", person, self._moment(), turns)
        else:
            self._plan("doc-summary" if draw < 0.85 else "reply-draft", person, self._moment(), turns)

    def plan_week(self, known: Sequence[Person], newcomers: Sequence[Person], calls: int) -> None:
        """Every newcomer's first day, the welcome chats of last week's, and the daily work of everybody."""
        for person in newcomers:
            assert person.first_day is not None
            self._plan_welcome(person, self._moment(person.first_day), self.source.choice((1, 2, 2, 2, 3, 4)))
        for person in known:
            if person.recent:
                for _visit in range(self.source.choice((0, 1, 1, 2))):
                    self._plan_welcome(person, self._moment(), self.source.choice((1, 1, 2)))
        everybody = [*known, *newcomers]
        # Some people use it eight times as much as others.
        weights = [min(8.0, self.source.paretovariate(1.4)) for _ in everybody]
        for prompt, share in SHARES.items():
            self._plan_many(prompt, everybody, weights, round(calls * share))

    def plan_drafts(self, people: Sequence[Person], calls: int) -> None:
        """A draft each for so many people, from Monday to Thursday."""
        for person in people[:calls]:
            self._plan("reply-draft", person, self._moment(self.source.randrange(4)), 1)

    def plan_some(self, known: Sequence[Person], calls: int) -> None:
        """A thin day."""
        for prompt, share in SHARES.items():
            self._plan_many(prompt, known, [1.0] * len(known), max(1, round(calls * share)))

    def into(self, traffic: Traffic) -> None:
        """Write the planned conversations out, numbered in the order of their times."""
        number = 0
        for conversation, (at_ms, prompt, person, asked) in enumerate(sorted(self._planned, key=_by_time)):
            session = f"{self._prefix.replace('demo', 's', 1)}{conversation:04d}"
            messages = [{"role": "system", "content": self._system(prompt, person, at_ms)}]
            for one in asked:
                number += 1
                call, wrong = self._call(prompt, person, at_ms, one, messages)
                call |= {"id": f"{self._prefix}{number:04d}", "session_id": session}
                traffic.calls.append(call)
                if wrong is not None:
                    traffic.planted[call["id"]] = wrong
                self._react(traffic, call, wrong, at_ms)
                at_ms += int(call["latency_ms"]) + int(self.source.uniform(9_000, 120_000))

    def _plan_many(self, prompt: str, people: Sequence[Person], weights: Sequence[float], calls: int) -> None:
        planned = 0
        while planned < calls:
            person = self.source.choices(people, weights)[0]
            at_ms = self._moment()
            joined_ms = self._since_ms + ((person.first_day or 0) + 1) * DAY_MS
            if person.first_day is not None and at_ms < joined_ms:
                continue
            turns = self.source.choices((1, 2, 3, 4, 5, 6), (38, 28, 17, 9, 5, 3))[0]
            planned += self._plan(prompt, person, at_ms, min(turns, calls - planned))

    def _plan(self, prompt: str, person: Person, at_ms: int, turns: int) -> int:
        """Plan one conversation with at most so many turns; return how many it has."""
        writer = Writer(self.source, person.language, person.shop)
        if prompt == "support-answer":
            asked = [self._support(turn, person, at_ms) for turn in writer.support(turns)]
        elif prompt == "reply-draft":
            # This version of the product drafts letters in English only.
            asked = [self._draft(Writer(self.source, "en", person.shop).reply(), person, at_ms)]
        else:
            asked = self._summaries(person, min(turns, 3))
        self._planned.append((at_ms, prompt, person, asked))
        return len(asked)

    def _plan_welcome(self, person: Person, at_ms: int, turns: int) -> None:
        writer = Writer(self.source, "en", person.shop)
        first_day = person.first_day is not None
        rude = first_day and person.meets_rudeness
        asked = [
            _Asked(turn, "rude", writer.rude()) if rude and self.source.random() < 0.88 else _Asked(turn)
            for turn in writer.welcome(turns, first_day=first_day)
        ]
        self._planned.append((at_ms, "welcome-chat", person, asked))

    def _support(self, turn: Turn, person: Person, at_ms: int) -> _Asked:
        forgets_language = self._version("support-answer", person, at_ms) == "v12"
        if forgets_language and person.language != "en" and self.source.random() < 0.93:
            return _Asked(turn, "wrong_language", turn.wrong_language)
        return _Asked(turn)

    def _draft(self, turn: Turn, person: Person, at_ms: int) -> _Asked:
        if self._version("reply-draft", person, at_ms) == "v6" and self.source.random() < 0.88:
            return _Asked(turn, "repeated", behaviour.flawed(self.source, "repeated", turn.answer, ""))
        return _Asked(turn)

    def _summaries(self, person: Person, turns: int) -> list[_Asked]:
        """Plan questions about one document; past the window most answers come from its last part."""
        if self._troubled and self.source.random() < 0.29:
            chars = self.source.uniform(41_500, 62_000)
        else:
            chars = min(33_000.0, self.source.lognormvariate(9.1, 0.75))
        document = upload(self.source, person.shop, int(chars))
        too_long = behaviour.tokens_of(document.text) > behaviour.WINDOW_TOKENS
        asked = []
        for _ in range(turns):
            subject, question, answer = document.ask()
            turn = Turn(subject, question, answer, (document.text,))
            if too_long and self.source.random() < 0.86:
                asked.append(_Asked(turn, "long_document", document.wrong_part()))
            else:
                asked.append(_Asked(turn))
        return asked

    def _call(
        self, prompt: str, person: Person, at_ms: int, one: _Asked, messages: list[dict[str, str]]
    ) -> tuple[dict[str, Any], str | None]:
        """Return the call and what is wrong with its answer; the messages grow by question and answer."""
        source = self.source
        model = behaviour.model_for(source, prompt)
        messages.append({"role": "user", "content": one.turn.message})
        read = sum(len(message["content"]) for message in messages) + sum(map(len, one.turn.context))
        input_tokens = behaviour.tokens_of(" " * read)
        call: dict[str, Any] = {
            "started_at": datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(),
            "input": list(messages),
            "context": list(one.turn.context),
            "prompt": (prompt, self._version(prompt, person, at_ms)),
            "model": model.name,
            "provider": model.provider,
            "user_id": person.id,
            "environment": "production",
            "tags": {"plan": person.plan, "surface": person.surface, "shop": person.shop},
        }
        failed = behaviour.failure(source)
        if failed is not None:
            return call | failed | {"usage": {"input_tokens": input_tokens}}, None
        answer, wrong = self._answer(one)
        messages.append({"role": "assistant", "content": answer})
        output_tokens = behaviour.tokens_of(answer)
        first_ms, latency_ms = behaviour.timing(source, model, input_tokens, output_tokens)
        retries = source.choice((1, 2)) if source.random() < 0.012 else 0
        waited_ms = round(sum(source.uniform(900, 2_600) for _ in range(retries)), 1)
        return call | {
            "output": answer,
            "finish_reason": "length" if wrong in ("long_document", "truncated") else "stop",
            "first_token_ms": round(first_ms + waited_ms, 1),
            "latency_ms": round(latency_ms + waited_ms, 1),
            "retries": retries,
            "usage": {"input_tokens": input_tokens, "output_tokens": output_tokens},
            "cost_usd": behaviour.cost_usd(model, input_tokens, output_tokens),
        }, wrong

    def _answer(self, one: _Asked) -> tuple[str, str | None]:
        """Return the answer, and what is wrong with it."""
        if one.trouble is not None:
            return one.wrong_answer, one.trouble
        kind = behaviour.flaw(self.source)
        if kind is None:
            return one.turn.answer, None
        other = Writer(self.source, "en", "Proof & Peel").support(1)[0].answer
        return behaviour.flawed(self.source, kind, one.turn.answer, other), kind

    def _react(self, traffic: Traffic, call: dict[str, Any], wrong: str | None, at_ms: int) -> None:
        """Add what the person did about the answer; one signal in eight overtakes its call."""
        if "error" in call:
            return
        until_ms = self._since_ms + self._days * DAY_MS
        for reaction in behaviour.reactions(self.source, call["prompt"][0], bad=wrong is not None):
            signal_ms = at_ms + int(call["latency_ms"] + reaction.after_s * 1000)
            if signal_ms >= until_ms:
                continue
            signal = {
                "kind": reaction.kind,
                "call_id": call["id"],
                "id": f"{call['id']}-{reaction.kind}",
                "at": datetime.fromtimestamp(signal_ms / 1000, UTC).isoformat(),
            }
            if reaction.with_comment:
                kind = "good" if reaction.kind == "thumbs_up" else wrong if wrong in TROUBLES else "bad"
                signal["comment"] = Writer(self.source, "en", "").comment(kind)
            (traffic.early if self.source.random() < 1 / 8 else traffic.signals).append(signal)

    def _moment(self, day: int | None = None) -> int:
        """Return a time of the part, on the given day or on a likely one."""
        if day is None:
            day = self.source.choices(range(self._days), WEEKDAYS[: self._days])[0]
        hour = self.source.choices(range(24), HOURS)[0]
        return self._since_ms + day * DAY_MS + hour * 3_600_000 + self.source.randrange(3_000_000)

    def _version(self, prompt: str, person: Person, at_ms: int) -> str:
        rolled_out = self._days == 1 or at_ms >= self._since_ms + ROLLOUT_MS
        if prompt == "support-answer" and self._troubled and rolled_out and person.tries_v12:
            return "v12"
        if prompt == "reply-draft" and self._repeats and at_ms < self._since_ms + REPAIRED_MS:
            return "v6"
        return VERSIONS[prompt]

    def _system(self, prompt: str, person: Person, at_ms: int) -> str:
        systems = written("systems")
        if prompt == "welcome-chat" and person.first_day is not None:
            prompt = "welcome-chat first day"
        elif self._version(prompt, person, at_ms) == "v12":
            prompt = "support-answer v12"
        return str(systems[prompt])


def _by_time(planned: tuple[int, str, Person, list[_Asked]]) -> tuple[int, str]:
    return planned[0], planned[2].id
