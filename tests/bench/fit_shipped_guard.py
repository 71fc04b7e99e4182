"""Fits the guard that ships, `critic/local/shipped_guard.json`: numbers only, no text.

    python -m tests.bench.fit_shipped_guard [--data DIR] [--seed N]

It reads sets that `tests.bench.local_critic` does not measure on: SummEval and HaluEval stay unseen, so a cold start is measured on sets, not merely on groups, that nothing here was fitted on.
"""

import argparse
import json
from pathlib import Path
from random import Random

import critic.local
from critic.local import Texts
from critic.local.critic import VERSION
from critic.local.features import Features
from critic.local.grounding import GroundingTable, signals_of
from critic.local.guard import fit_guard_model
from tests.bench.rated_sets import DATA, SETS

#: Outputs taken of each set at most, so that none decides alone.
_EACH = 400
_WITH_SOURCE = ("newsroom", "roscoe", "topicalchat")
_WITHOUT_SOURCE = ("llmbar", "expertqa", "task_dialogues", "product_help", "feedbackqa")

TARGET = Path(critic.local.__file__).with_name("shipped_guard.json")


def main() -> None:
    """Fit, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the sets")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random = Random(options.seed)
    calls: list[Texts] = []
    for name in _WITH_SOURCE + _WITHOUT_SOURCE:
        rows = [row.call for row in SETS[name](options.data) if (row.call.output or "").strip()]
        calls += random.sample(rows, min(_EACH, len(rows)))
        print(f"{name:16} {min(_EACH, len(rows)):5} of {len(rows)} outputs")
    model = fit_guard_model(calls, None, seed=options.seed)
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
