"""Reads provider responses by their shape; imports no provider's package.

Flow: the object given to `record()` -> `read_response` -> fields of a wire Call -> `_wire`. Known shapes:
OpenAI chat completions, Responses and (text) completions, Anthropic messages; as the packages' objects, as
objects that look like them, or as dicts of their JSON.

The finish reason is the provider's own word (`stop`, `length`, `tool_calls`; `end_turn`, `max_tokens`,
`tool_use`); the Responses API has none, so its status is told in the words of chat completions. A refusal is
the output (it is what the user saw) with the finish reason `refusal`. An answer that asks the application to
call tools is one message, `[{"role": "assistant", "content": text, "tool_calls": [{"id", "name",
"arguments"}]}]`; `tools` names these and those that the provider ran by itself. Of several choices the first
counts.
"""

from operator import index
from typing import Any, Dict, List, Optional

from lowlight._limits import COUNT_MAX


class UnknownResponse(ValueError):
    """The object has none of the known shapes; the message says what to pass instead."""


def get(thing: Any, name: str) -> Any:
    """Return the field of a dict, or the attribute of an object; None where it has none."""
    if type(thing) is dict:
        return thing.get(name)
    if thing is None or type(thing) is str:
        return None
    return getattr(thing, name, None)


def read_response(response: Any) -> Dict[str, Any]:
    """Return the wire Call's fields that a response tells; a field it does not tell is absent.

    Raises:
        UnknownResponse: it is none of the known shapes.
    """
    if type(response) is str:
        return {"output": response}
    if _is_list(get(response, "choices")):
        read = _read_choices(response)
    elif _is_list(get(response, "output")):
        read = _read_responses_api(response)
    elif _is_list(get(response, "content")):
        read = _read_message(response)
    else:
        raise UnknownResponse(
            f"record() cannot read a {type(response).__name__}; it takes an openai or anthropic response, "
            "a dict of one, or a string. Pass output= instead"
        )
    read["model"] = _text(get(response, "model"))
    read["response_id"] = _text(get(response, "id"))
    read["usage"] = read_usage(get(response, "usage"))
    error = get(response, "error")
    if error is not None:
        read["error"] = {
            "type": _text(get(error, "code")) or _text(get(error, "type")) or "error",
            "message": _text(get(error, "message")) or str(error),
        }
    return {name: value for name, value in read.items() if value is not None}


def _read_choices(response: Any) -> Dict[str, Any]:
    """Chat completions and text completions."""
    answer = _Answer()
    choices = get(response, "choices")
    if choices:
        choice = choices[0]
        answer.finish_reason = get(choice, "finish_reason")
        message = get(choice, "message")
        if message is None:
            answer.say(get(choice, "text"))
        else:
            answer.say(_content_text(get(message, "content")))
            answer.say(get(get(message, "audio"), "transcript"))
            if get(message, "refusal"):
                answer.refuse(get(message, "refusal"))
            for call in get(message, "tool_calls") or ():
                answer.ask_for(call)
            if get(message, "function_call") is not None:
                answer.ask_for(get(message, "function_call"))
    return answer.fields(_provider(response, "openai"))


def _read_responses_api(response: Any) -> Dict[str, Any]:
    """OpenAI's Responses: a list of items, some of them messages."""
    answer = _Answer()
    for item in get(response, "output"):
        kind = get(item, "type")
        answer.pause()
        if kind == "message":
            for part in get(item, "content") or ():
                if get(part, "type") == "refusal":
                    answer.refuse(get(part, "refusal"))
                else:
                    answer.say(get(part, "text"))
        elif kind in ("function_call", "custom_tool_call"):
            answer.ask_for(item)
        elif kind == "mcp_call":
            answer.used(get(item, "name"))
        elif type(kind) is str and kind.endswith("_call"):  # web_search_call, code_interpreter_call ...
            answer.used(kind[: -len("_call")])
    status = get(response, "status")
    reason = get(get(response, "incomplete_details"), "reason")
    if not answer.finish_reason:
        if reason:
            answer.finish_reason = "length" if reason == "max_output_tokens" else reason
        elif status in (None, "completed"):
            answer.finish_reason = "tool_calls" if answer.calls else "stop"
        else:
            answer.finish_reason = status
    # Failed, cancelled or still running: no text does not mean that the user saw an empty answer.
    answer.may_be_silent = status in (None, "completed", "incomplete")
    return answer.fields(_provider(response, "openai"))


def _read_message(response: Any) -> Dict[str, Any]:
    """Anthropic's messages: a list of content blocks. Thinking is not what the user saw and stays out."""
    answer = _Answer()
    for block in get(response, "content"):
        kind = get(block, "type")
        if kind == "text":
            answer.say(get(block, "text"))
            continue
        answer.pause()
        if kind == "tool_use":
            answer.ask_for(block)
        elif kind in ("server_tool_use", "mcp_tool_use"):
            answer.used(get(block, "name"))
    answer.finish_reason = get(response, "stop_reason")
    answer.may_be_silent = answer.finish_reason is not None
    return answer.fields(_provider(response, "anthropic"))


class _Answer:
    """What a response says, gathered piece by piece."""

    def __init__(self) -> None:
        self.finish_reason: Any = None
        self.may_be_silent = True
        self.calls: List[Dict[str, Any]] = []
        self._tools: List[str] = []
        self._paragraphs: List[List[str]] = [[]]

    def say(self, text: Any) -> None:
        """Add a text; texts in a row have no seam (a provider cuts them for citations)."""
        if type(text) is str:
            self._paragraphs[-1].append(text)

    def pause(self) -> None:
        """Begin a new paragraph: something else stood between two texts."""
        self._paragraphs.append([])

    def refuse(self, text: Any) -> None:
        """Add a refusal."""
        self.say(text)
        self.finish_reason = "refusal"

    def ask_for(self, call: Any) -> None:
        """Add a tool call that the application is to carry out."""
        found = _tool_call(call)
        self.calls.append(found)
        self.used(found.get("name"))

    def used(self, tool: Any) -> None:
        """Note that a tool was called."""
        if type(tool) is str and tool not in self._tools:
            self._tools.append(tool)

    def fields(self, provider: Optional[str]) -> Dict[str, Any]:
        """Return the wire Call's fields; None for what is not known."""
        text = "\n\n".join("".join(texts) for texts in self._paragraphs if texts)
        output: Any = text
        if self.calls:
            output = [{"role": "assistant", "content": text, "tool_calls": self.calls}]
        elif not text and not (self.may_be_silent and self.finish_reason):
            output = None
        return {
            "output": output,
            "finish_reason": _text(self.finish_reason),
            "provider": provider,
            "tools": self._tools or None,
        }


def _tool_call(call: Any) -> Dict[str, Any]:
    """Return {"id", "name", "arguments"} of a tool call in any of the providers' shapes."""
    inner = get(call, "function") or get(call, "custom") or call
    arguments = get(inner, "arguments")
    if arguments is None:
        arguments = get(inner, "input")
    found = {
        "id": get(call, "call_id") or get(call, "id"),
        "name": _text(get(inner, "name")),
        "arguments": arguments,
    }
    return {name: value for name, value in found.items() if value is not None}


def _content_text(content: Any) -> str:
    """The text of a message's content: a string, or a list of parts."""
    if not _is_list(content):
        return content if type(content) is str else ""
    return "".join(text for text in (get(part, "text") for part in content) if type(text) is str)


def _provider(response: Any, shape: str) -> Optional[str]:
    """Name the provider a shape belongs to, for its own package's objects and for dicts.

    Another package's object of that shape (LiteLLM's, say) speaks for any provider: unknown.
    """
    package = type(response).__module__.partition(".")[0]
    return shape if package in (shape, "builtins") else None


def read_usage(usage: Any) -> Optional[Dict[str, int]]:
    """Return token counts in the wire's words; None where nothing is counted.

    `input_tokens` is everything the model read. Anthropic reports what it read from and wrote to its cache
    beside it, OpenAI within it, so for Anthropic they are added.
    """
    if usage is None:
        return None
    cached = get(usage, "cached_input_tokens")
    reasoning = get(usage, "reasoning_tokens")
    input_tokens = _count(_first(get(usage, "input_tokens"), get(usage, "prompt_tokens")))
    output_tokens = _first(get(usage, "output_tokens"), get(usage, "completion_tokens"))
    cache_read = get(usage, "cache_read_input_tokens")
    cache_written = get(usage, "cache_creation_input_tokens")
    if input_tokens is not None and (cache_read is not None or cache_written is not None):
        input_tokens += (_count(cache_read) or 0) + (_count(cache_written) or 0)
    input_details = get(usage, "input_tokens_details") or get(usage, "prompt_tokens_details")
    output_details = get(usage, "output_tokens_details") or get(usage, "completion_tokens_details")
    found = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cached_input_tokens": _first(cached, cache_read, get(input_details, "cached_tokens")),
        "reasoning_tokens": _first(
            reasoning, get(output_details, "reasoning_tokens"), get(output_details, "thinking_tokens")
        ),
    }
    counts = {name: _count(tokens) for name, tokens in found.items()}
    return {name: tokens for name, tokens in counts.items() if tokens is not None} or None


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _count(value: Any) -> Optional[int]:
    """A number of tokens that the server takes, of whatever type of whole numbers; None of anything else."""
    if type(value) is not int:
        if value is None or type(value) is bool:
            return None
        try:
            value = int(value) if type(value) is float and value.is_integer() else index(value)
        except Exception:  # any property of a foreign object may raise
            return None
    return value if 0 <= value <= COUNT_MAX else None


def _is_list(value: Any) -> bool:
    return type(value) is list or type(value) is tuple


def _text(value: Any) -> Optional[str]:
    return value if type(value) is str and value else None
