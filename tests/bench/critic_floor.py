"""The floor of `make bench BENCH=critic`: a bare loop of the same SDK client, 100 in flight, nothing kept.

Flow: `python -m tests.bench.critic_floor --url U --rubrics DIR --calls N` -> the very requests that the
driver makes, prepared beforehand -> `client.decisions.create` -> CPU seconds on stdout. The provider counts.
"""

import argparse
import asyncio
import json
import resource
from pathlib import Path

import openai

from critic.drivers.base import Case
from critic.drivers.openai_decisions import request_of
from critic.local import Reading
from rubrics import CallView, load_rubrics, new_fence
from tests.bench.critic_calls import MODEL, text_of

AT_ONCE = 100
UNREAD = Reading(None, None, None, None, None, None, {})


async def _ask(url: str, requests: list[dict[str, object]]) -> None:
    client = openai.AsyncOpenAI(api_key="sk-bench", base_url=url, max_retries=0)
    slots = asyncio.Semaphore(AT_ONCE)

    async def _one(request: dict[str, object]) -> None:
        async with slots:
            await client.decisions.create(**request)  # type: ignore[call-overload]

    async with asyncio.TaskGroup() as group:
        for request in requests:
            group.create_task(_one(request))
    await client.close()


def main() -> None:
    """Ask, then say what it cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--rubrics", type=Path, required=True)
    parser.add_argument("--calls", type=int, required=True)
    args = parser.parse_args()
    rubrics = tuple(load_rubrics(args.rubrics))
    requests = []
    for number in range(args.calls):
        asked, answered = text_of(number)
        call = CallView(input=asked, output=answered)
        fence = new_fence()
        view = rubrics[0].show(call, fence).text
        requests.append(request_of(Case(call, view, fence, rubrics, UNREAD), MODEL))
    before = resource.getrusage(resource.RUSAGE_SELF)
    asyncio.run(_ask(args.url, requests))
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))


if __name__ == "__main__":
    main()
