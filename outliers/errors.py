"""What can go wrong when the worst is looked for, as a caller sees it."""


class OutliersError(Exception):
    """Base of everything `outliers` raises on purpose; the message names the thing and the remedy."""


class UnknownWeek(OutliersError):
    """No such ISO week; the message says how one is written."""


class UnknownGrouping(OutliersError):
    """Latencies are not counted by that field, or no such measure is; the message lists those that are."""


class BadCursor(OutliersError):
    """A cursor that no page of ours gave out; start again without one."""
