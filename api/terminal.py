"""What others wrote, made fit for a terminal: its control characters are shown, never obeyed.

A model's name, a user's id or a text may hold the sequences by which a terminal renames its window, fills the
clipboard or writes over the line above, and a line end in a name would forge a line of a report.

Flow: what the store or the server gave -> `plain`, `plain_text` or `as_json` -> click.echo.
"""

import json
import re
from typing import Any

#: C0 and C1 controls, delete, the line and paragraph separators, and what turns the direction of writing.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def plain(value: Any) -> Any:
    """Return a value as JSON knows it with the controls of each of its texts escaped, line ends included."""
    if isinstance(value, str):
        return _CONTROLS.sub(_escaped, value)
    if isinstance(value, dict):
        return {plain(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def plain_text(text: str, indent: str = "") -> str:
    """Return a text of several lines, its controls escaped; line ends and tabs stay.

    Args:
        indent: put before each line but the first.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    return f"\n{indent}".join("\t".join(plain(part) for part in line.split("\t")) for line in lines)


def as_json(value: Any) -> str:
    """Return JSON laid out for reading; controls are escaped as JSON does it, so that nothing is lost."""
    laid_out = json.dumps(value, indent=2, ensure_ascii=False)
    return "\n".join(
        _CONTROLS.sub(lambda one: f"\\u{ord(one[0]):04x}", line) for line in laid_out.split("\n")
    )


def _escaped(control: re.Match[str]) -> str:
    code = ord(control[0])
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(
        control[0], f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    )
