"""Conditions on a call's fields: what they are called, how a person reads them, how they are kept.

Flow: outliers.cohorts.candidates makes them -> outliers.cohorts.findings tests them -> kept as JSON -> pages
show `words`. A condition is on fields known before the answer, so that it can be looked for again once the
fix is out. Most are on one field; one on two or more ("tool = search and tag region = eu") is a chain: each
holds `also`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

#: Fields that say how long a text is, in words and their unit.
_LENGTHS = {
    "input_tokens": ("inputs", "tokens"),
    "input_chars": ("inputs", "characters"),
    "context_chars": ("sources", "characters"),
    "output_tokens": ("answers", "tokens"),
}


@dataclass(frozen=True)
class Condition:
    """One test of one field, and of another where `also` names one: then both must hold.

    Attributes:
        field: prompt_version, prompt, model, provider, environment, release, input_language, tool or tag;
            input_tokens, input_chars, context_chars, user_age_days (since the user's first call),
            calls_before (of the same user, where that user is new this week), of a slow tail also
            output_tokens and retries; started_at; or input_text, which `outliers.cohorts.text_columns` reads.
        op: "=" for names, ">" or "<" for numbers, "within" for started_at, "has" for input_text.
        value: a name ("" stands for not given); a number in the field's unit; two instants; or words with
            blanks between, of which the input has at least one.
        key: the tag's name where the field is "tag".
        also: what must hold besides; None for a condition on one field.
    """

    field: str
    op: str
    value: str | float | tuple[int, int]
    key: str = ""
    also: "Condition | None" = None

    @property
    def parts(self) -> tuple["Condition", ...]:
        """The tests on one field each, all of which must hold."""
        alone = replace(self, also=None) if self.also else self
        return (alone, *(self.also.parts if self.also else ()))

    @staticmethod
    def all_of(parts: Sequence["Condition"]) -> "Condition":
        """Return the condition that holds where all of these (each on one field, at least one) hold."""
        chain: Condition | None = None
        for part in reversed(parts):
            chain = replace(part, also=chain)
        if chain is None:
            raise ValueError("a condition needs at least one part")
        return chain

    def words(self, zone: ZoneInfo) -> str:
        """Return the condition as a person reads it: "input_tokens > 9,800", "tool = kb and model = m"."""
        if self.also is not None:
            return " and ".join(part.words(zone) for part in self.parts)
        if isinstance(self.value, tuple):
            return f"a start on {_span(self.value, zone)}"
        if self.field == "tag":
            return f"tag {self.key} = {self.value or 'none'}"
        if self.op == "has":
            return f"input text has {_either(str(self.value))}"
        if isinstance(self.value, str):
            return f"{self.field.replace('_', ' ')} = {self.value or 'none'}"
        return f"{self.field} {self.op} {number(self.value)}"

    def where(self, zone: ZoneInfo) -> str:
        """Return the condition as a sentence ends with it: "for prompt faq@v7", "for inputs in de"."""
        if self.also is not None:
            said = [part.where(zone) for part in self.parts]
            # "for prompt faq@v7 and for inputs in de on Tue 14:00 to 16:00"
            spans = [one for one, part in zip(said, self.parts, strict=True) if part.op == "within"]
            names = [one for one, part in zip(said, self.parts, strict=True) if part.op != "within"]
            return " ".join([" and ".join(names), *spans]).strip()
        if isinstance(self.value, tuple):
            return f"on {_span(self.value, zone)}"
        if self.op == "has":
            return f"for inputs with {_either(str(self.value))}"
        if self.field in ("prompt", "prompt_version"):
            return f"for prompt {self.value or 'none'}"
        if self.field == "user_age_days" and self.op == "<":
            days = number(float(str(self.value)))
            return f"for users on their first {'day' if days == '1' else f'{days} days'}"
        if self.field == "calls_before" and self.op == "<":
            first = number(float(str(self.value)))
            return f"for a user's first {'call' if first == '1' else f'{first} calls'}"
        if self.field in ("model", "provider", "release"):
            return f"for {self.field} {self.value or 'none'}"
        if self.field == "environment":
            return f"in environment {self.value or 'none'}"
        if self.field == "input_language" and self.value:
            return f"for inputs in {self.value}"
        if self.field in _LENGTHS:
            what, unit = _LENGTHS[self.field]
            return (
                f"for {what} {'over' if self.op == '>' else 'under'} {number(float(str(self.value)))} {unit}"
            )
        if self.field == "tool":
            return f"with tool {self.value}"
        return f"where {self.words(zone)}"

    def as_json(self) -> dict[str, Any]:
        """Return {"field", "op", "value"} and, for a tag, "key"; under "also" the next part."""
        value: Any = list(self.value) if isinstance(self.value, tuple) else self.value
        if self.op == "has":
            value = str(value).split()
        kept: dict[str, Any] = {"field": self.field, "op": self.op, "value": value}
        if self.key:
            kept["key"] = self.key
        return kept | {"also": self.also.as_json()} if self.also else kept

    @staticmethod
    def from_json(kept: dict[str, Any]) -> "Condition":
        """Return the condition that `as_json` kept."""
        value = kept["value"]
        if kept["op"] == "has":
            value = " ".join(value)
        elif isinstance(value, list):
            value = (int(value[0]), int(value[1]))
        also = Condition.from_json(kept["also"]) if kept.get("also") else None
        return Condition(kept["field"], kept["op"], value, kept.get("key", ""), also)


def _either(words: str) -> str:
    """Return words as a person reads them: "refund" -> "“refund”", two -> "“refund” or “parcel”"."""
    return " or ".join(f"“{word}”" for word in words.split())


def number(value: float) -> str:
    """Return a number as a person writes it: 9800 -> "9,800", 0.5 -> "0.5"."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"


def moment(ms: int, zone: ZoneInfo) -> str:
    """Return an instant within a week: "Tue 14:00"."""
    return datetime.fromtimestamp(ms / 1000, zone).strftime("%a %H:%M")


def _span(value: tuple[int, int], zone: ZoneInfo) -> str:
    since, until = (moment(ms, zone) for ms in value)
    return f"{since} to {until[4:] if until[:3] == since[:3] else until}"
