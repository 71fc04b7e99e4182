"""What a page knows of its forms: who the reader is, and what they sent that could not be done.

Flow: api.routes.case_forms -> `Said` in the page's `Frame` -> templates/forms.html, which shows the error at
its field with what was written. Forms are plain HTML: they work without a script.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Said:
    """What a reader sent, and why it was not done.

    Attributes:
        who: as they named themselves last; "" before.
        action: the form they sent: root_cause, fixed ...; "" where nothing was refused.
        field: the field at fault; "" where it is none that the reader sees.
        error: what is wrong and what to do.
        values: what they wrote, by field: nothing is lost.
    """

    who: str = ""
    action: str = ""
    field: str = ""
    error: str = ""
    values: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def value(self, action: str, name: str, otherwise: str = "") -> str:
        """Return what a field of a form is filled with."""
        return self.values.get(name, otherwise) if action == self.action else otherwise

    def error_at(self, action: str, name: str) -> str:
        """Return what is wrong with a field of a form; "" where nothing is."""
        return self.error if (action, name) == (self.action, self.field) else ""
