"""Tell Lowlight about each LLM response and what the user made of it. Standard library only.

    client = lowlight.wrap(openai.OpenAI())
    call_id = lowlight.record(response, input=messages, latency_ms=812.5, prompt=("support-answer", "v7"))
    lowlight.signal("thumbs_down", call_id=call_id)

Imported by applications; imports nothing of the server. Data goes `record` -> a bounded queue -> a background
thread -> `POST /v1/calls`. The server is LOWLIGHT_URL (default http://127.0.0.1:4545), or what `init` says.
"""

from lowlight._calls import OpenCall
from lowlight._client import Client

__all__ = [
    "Client",
    "OpenCall",
    "__version__",
    "aflush",
    "call",
    "context",
    "flush",
    "init",
    "observe",
    "record",
    "shutdown",
    "signal",
    "stats",
    "wrap",
]
__version__ = "0.1.0"

_default = Client()

init = _default.init
record = _default.record
signal = _default.signal
wrap = _default.wrap
observe = _default.observe
call = _default.call
context = _default.context
flush = _default.flush
aflush = _default.aflush
shutdown = _default.shutdown
stats = _default.stats
