"""What an image is, in words, from its first bytes: a critic reads text, and must know what stood there.

Flow: a part of a message (OpenAI's `image_url`, Anthropic's `source`) -> `image_words` -> ": 1024x768 png".
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

#: Of the base64 text, what is decoded: the sizes of nearly all images stand in their first 48 KiB.
HEAD_CHARS = 65_536


def image_words(part: Mapping[str, Any]) -> str:
    """Return ': WIDTHxHEIGHT KIND' of an inline image, as much of it as its head tells; '' of any other."""
    media_type, data = _inline(part)
    if not data:
        return ""
    head = data[:HEAD_CHARS]
    try:
        first = base64.b64decode(head[: len(head) // 4 * 4], validate=False)
    except (binascii.Error, ValueError):
        return ""
    kind, size = _kind_and_size(first)
    kind = kind or (media_type.rpartition("/")[2] if media_type.startswith("image/") else "")
    words = [f"{size[0]}x{size[1]}"] if size else []
    kind = "".join(letter for letter in kind if letter.isalnum())[:20]
    return f": {' '.join([*words, kind])}" if kind else ""


def _inline(part: Mapping[str, Any]) -> tuple[str, str]:
    """Return media type and base64 text of a part that carries its image; ('', '') of one that does not."""
    place: Any = part.get("image_url", part.get("source", part.get("data")))
    media_type = part.get("media_type", part.get("mime_type", ""))
    if isinstance(place, Mapping):
        media_type = place.get("media_type", media_type)
        place = place.get("url", place.get("data"))
    if not isinstance(place, str):
        return "", ""
    if place.startswith("data:"):
        about, _, data = place[5:].partition(",")
        return (about.partition(";")[0], data) if ";base64" in about else ("", "")
    return (
        (str(media_type), place) if str(media_type).startswith("image/") and "://" not in place else ("", "")
    )


def _kind_and_size(first: bytes) -> tuple[str, tuple[int, int] | None]:
    if first.startswith(b"\x89PNG\r\n\x1a\n") and len(first) >= 24:
        return "png", (int.from_bytes(first[16:20]), int.from_bytes(first[20:24]))
    if first[:6] in (b"GIF87a", b"GIF89a") and len(first) >= 10:
        return "gif", (int.from_bytes(first[6:8], "little"), int.from_bytes(first[8:10], "little"))
    if first[:4] == b"RIFF" and first[8:12] == b"WEBP":
        return "webp", None
    if first.startswith(b"\xff\xd8"):
        return "jpeg", _jpeg_size(first)
    return "", None


def _jpeg_size(first: bytes) -> tuple[int, int] | None:
    """Return the size in the frame header, the first segment 0xC0..0xCF that is no table."""
    at = 2
    while at + 9 <= len(first) and first[at] == 0xFF:
        marker, length = first[at + 1], int.from_bytes(first[at + 2 : at + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(first[at + 7 : at + 9]), int.from_bytes(first[at + 5 : at + 7])
        at += 2 + max(length, 2)
    return None
