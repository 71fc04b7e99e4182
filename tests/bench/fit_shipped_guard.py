"""Fits the guard that ships, `critic/local/shipped_guard.json`: numbers only, no text.

    python -m tests.bench.fit_shipped_guard [--data DIR] [--seed N]

It reads sets that `tests.bench.local_critic` does not measure on: SummEval and HaluEval stay unseen, so a
cold start is measured on sets, not merely on groups, that nothing here was fitted on.
"""

import json
from pathlib import Path
from random import Random

import critic.local
from critic.local import Texts
from critic.local.critic import VERSION
from critic.local.features import Features
from critic.local.grounding import GroundingTable, signals_of
from critic.local.guard import fit_guard_model
from tests.bench.figures import options
from tests.bench.rated_sets import SETS
from tests.bench.support_replies import support_calls

#: Outputs taken of each set at most, so that none decides alone.
_EACH = 400
_WITH_SOURCE = ("newsroom", "roscoe", "topicalchat")
_WITHOUT_SOURCE = ("llmbar", "expertqa", "task_dialogues", "product_help", "feedbackqa")

TARGET = Path(critic.local.__file__).with_name("shipped_guard.json")


def _whole(output: str) -> bool:
    """Return whether an output may stand for an ordinary one: not empty, and closed like a sentence.

    A part of the sets with a source was cut in mid-sentence by its system; taken as ordinary it would
    teach the guard that a cut answer is fine. (Open chat ends in lists and code without a full stop.)
    """
    return bool(output.strip()) and output.rstrip()[-1] in ".!?…\"')]}”’。！？:|*`"


def main() -> None:
    """Fit, and write the JSON."""
    chosen = options("Fits the guard that ships.").parse_args()
    random = Random(chosen.seed)
    calls: list[Texts] = []
    for name in _WITH_SOURCE + _WITHOUT_SOURCE:
        whole = _whole if name in _WITH_SOURCE else str.strip
        rows = [row.call for row in SETS[name](chosen.data) if whole(row.call.output or "")]
        calls += random.sample(rows, min(_EACH, len(rows)))
        print(f"{name:16} {min(_EACH, len(rows)):5} of {len(rows)} outputs")
    for with_source in (True, False):
        calls += support_calls(_EACH, with_source=with_source, seed=chosen.seed)
    model = fit_guard_model(calls, None, seed=chosen.seed)
    overlaps = [one for one in Features(calls).overlaps if one is not None]
    fit = {
        "version": VERSION,
        "n": len(calls),
        "sets": list(_WITH_SOURCE + _WITHOUT_SOURCE),
        "guard": model.to_json(),
        "grounding": GroundingTable.of(signals_of(overlaps)).to_json(),
    }
    TARGET.write_text(json.dumps(fit, indent=None, separators=(",", ":")) + "\n", "utf-8")
    print(f"wrote {TARGET} ({TARGET.stat().st_size / 1024:.0f} KiB)")


if __name__ == "__main__":
    main()
