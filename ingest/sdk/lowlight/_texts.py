"""What of a call's texts may leave the process: redacted, withheld, shortened. Runs in the background thread.

Flow: `_wire` builds a call or signal -> `may_leave` -> `to_json`. Texts are the input, the output, the
context, the message of an error, and the comment of a signal; ids, names and tags go as they are.
"""

from typing import Any, Dict

from lowlight._config import Config, Redact
from lowlight._json import to_json, whole_text
from lowlight._plain import plain
from lowlight._responses import get

#: Characters kept of each text of a call that is too long, half at its head and half at its tail.
SHORT_CHARS = 128 * 1024
_TEXTS = ("input", "output", "context", "comment")
#: Keys of a message whose values say what it is, and are no text.
_LABELS = frozenset(("role", "type", "id", "call_id", "tool_call_id"))


def may_leave(item: Dict[str, Any], config: Config, problems: Dict[str, str]) -> Dict[str, Any]:
    """Return a call or signal with its texts redacted, or with their sizes and hashes instead.

    Where the redaction fails the text is withheld, with its size but without its hash: what was to be
    redacted may be short enough to be guessed from it. The log names the exception's kind and not its
    message, which may quote the text.
    """
    if config.redact is not None:
        item = _redacted(item, config.redact, problems)
    return item if config.capture_content else _measured(item)


def _redacted(item: Dict[str, Any], redact: Redact, problems: Dict[str, str]) -> Dict[str, Any]:
    found = dict(item)
    for name in _TEXTS:
        if name not in found:
            continue
        value = plain(found.pop(name))
        try:
            found[name] = _through(redact, value)
        except BaseException as problem:  # sys.exit() too: it would end the thread that sends
            problems[f"redact:{name}"] = f"redact() failed ({type(problem).__name__}): {name} was withheld"
            if name in ("input", "output"):
                found.setdefault(f"{name}_chars", chars_of(value))
    error = found.get("error")
    if type(error) is dict and error.get("message"):
        try:
            found["error"] = {**error, "message": _through(redact, error["message"])}
        except BaseException as problem:
            problems["redact:error"] = (
                f"redact() failed ({type(problem).__name__}): the error's message was withheld"
            )
            found["error"] = {"type": error.get("type", "error")}
    return found


def _through(redact: Redact, value: Any) -> Any:
    if type(value) is str:
        text = redact(value)
        if type(text) is not str:
            raise TypeError(f"redact() returned a {type(text).__name__}")
        return text
    if type(value) is list:
        return [_through(redact, item) for item in value]
    if type(value) is dict:
        return {
            name: item if name in _LABELS and type(item) is str else _through(redact, item)
            for name, item in value.items()
        }
    return value


def _measured(item: Dict[str, Any]) -> Dict[str, Any]:
    """The item with sizes and hashes in place of its texts; a list of messages is hashed as compact JSON."""
    import hashlib

    found = {name: value for name, value in item.items() if name not in _TEXTS}
    for name in ("input", "output"):
        if name in item:
            value = item[name]
            text = whole_text(value).encode() if type(value) is str else to_json(value)
            found.setdefault(f"{name}_chars", chars_of(plain(value)))
            found[f"{name}_sha256"] = hashlib.sha256(text).hexdigest()
    if type(found.get("error")) is dict:
        found["error"] = {"type": found["error"].get("type", "error")}
    return found


def shortened(call: Dict[str, Any], bytes_max: int) -> Dict[str, Any]:
    """The call with each long text cut to head and tail, then without texts that are still too many."""
    for name in ("input", "output"):
        if name in call:
            call[f"{name}_chars"] = chars_of(call[name])
    for chars in (SHORT_CHARS, SHORT_CHARS // 32, SHORT_CHARS // 1024):
        shorter = {name: short(value, chars) for name, value in call.items()}
        if len(to_json(shorter)) <= bytes_max:
            return shorter
    return {name: value for name, value in call.items() if name not in ("input", "output", "context")}


def short(value: Any, chars: int = SHORT_CHARS) -> Any:
    """Return a value with each long text in it cut to head and tail."""
    if type(value) is str and len(value) > chars:
        half = chars // 2
        return f"{value[:half]}\n[... {len(value) - 2 * half} characters cut ...]\n{value[-half:]}"
    if type(value) is list:
        return [short(item, chars) for item in value]
    if type(value) is dict:
        return {name: short(item, chars) for name, item in value.items()}
    return value


def chars_of(value: Any) -> int:
    """Characters of a text, or of the texts in a list of messages."""
    if type(value) is str:
        return len(value)
    if type(value) is list:
        return sum(
            chars_of(item if type(item) is str else get(item, "content") or get(item, "text"))
            for item in value
        )
    return 0
