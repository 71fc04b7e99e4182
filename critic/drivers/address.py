"""A critic that is named by its server's address: `systemone:http://127.0.0.1:11434#nimble`."""

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Address:
    """Where a server is and which of its models answers.

    Attributes:
        base_url: what the paths of the API are appended to; ends in "/v1" or another version.
        host: without port, in lower case; keys are kept by it.
    """

    base_url: str
    host: str
    model: str


def address_of(where: str, *, path: str) -> Address | None:
    """Return the address in `URL#MODEL`; None where it is none.

    The URL may be a server's root (`http://127.0.0.1:11434`: `/v1` is added), its API
    (`https://openrouter.ai/api/v1`) or the whole endpoint (`http://127.0.0.1:8000/v1/systemone`).

    Args:
        path: of the endpoint, such as "/systemone".
    """
    url, _, model = where.partition("#")
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:  # a port that is no number, an IPv6 address without its bracket
        return None
    if parts.scheme not in ("http", "https") or not host or not model.strip() or parts.query:
        return None
    if parts.username is not None or parts.password is not None:
        return None  # a name is shown on pages: a key does not belong into it
    base = url.rstrip("/").removesuffix(path)
    last = base.rsplit("/", 1)[-1]
    versioned = last.startswith("v") and last[1:2].isdigit()
    return Address(base if versioned else f"{base}/v1", host.lower(), model.strip())
