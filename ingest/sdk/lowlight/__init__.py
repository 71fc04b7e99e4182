"""Tell Lowlight about each LLM response and what the user made of it. Standard library only.

    call_id = lowlight.record(response, input=messages, latency_ms=812.5, prompt=("support-answer", "v7"))
    lowlight.signal("thumbs_down", call_id=call_id)

Imported by applications; imports nothing of the server. Data goes `record` -> a bounded queue -> a background
thread -> `POST /v1/calls`. The server is LOWLIGHT_URL (default http://127.0.0.1:4545), or what `init` says.
"""

from lowlight._client import Client

__all__ = ["Client", "__version__", "flush", "init", "record", "shutdown", "signal", "stats"]
__version__ = "0.1.0"

_default = Client()

init = _default.init
record = _default.record
signal = _default.signal
flush = _default.flush
shutdown = _default.shutdown
stats = _default.stats
