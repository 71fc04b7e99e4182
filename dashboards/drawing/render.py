"""Templates in, HTML out; contexts in, JSON twins out.

Flow: a page's context (frozen dataclass) + `Frame` -> Jinja, autoescaping everything, undefined names are
errors -> HTML. The same context -> `as_json` -> the twin.
"""

from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape
from pydantic_core import to_json

from critic import hostile
from dashboards import words
from dashboards.drawing import case_words, charts, reasons, tail_charts
from dashboards.forms import Said
from dashboards.queries.agreement import LABELS_READ
from dashboards.queries.rubrics import CALLS_READ
from outliers.changes import filters_of, moved_most

HERE = Path(__file__).parent.parent
STATIC = HERE / "static"

#: The pages, in the order of the masthead: section, path, name.
SECTIONS = (
    ("week", "/", "This week"),
    ("cases", "/cases", "Cases"),
    ("worst", "/worst", "Worst"),
    ("calls", "/calls", "Calls"),
    ("latency", "/latency", "Latency"),
    ("costs", "/costs", "Costs"),
    ("rubrics", "/rubrics", "Rubrics"),
    ("critic", "/critic", "Critic"),
)


@dataclass(frozen=True)
class Frame:
    """What every page has around its content.

    Attributes:
        section: which name of the masthead is the current one; '' for none.
        base_url: the server as the reader reached it: "http://127.0.0.1:4545".
        twin: the page's JSON, as path and query; '' where there is none.
        zone: time zone that times are shown in.
        search: what stands in the search field.
        said: who the reader is, and what they sent that could not be done.
    """

    section: str
    base_url: str
    twin: str
    zone: ZoneInfo
    search: str = ""
    said: Said = field(default_factory=Said)


def render(template: str, page: Any, frame: Frame) -> str:
    """Return a page's HTML.

    Args:
        template: file name in `templates`, "calls.html".
        page: the page's context; the template knows it as `page`.
    """
    return _environment().get_template(template).render(page=page, frame=frame)


def as_json(page: Any) -> bytes:
    """Return a context as JSON: times ISO 8601 with Z, unknown null, no NaN."""
    return to_json(page, inf_nan_mode="null", timedelta_mode="float")


@cache
def static_files() -> dict[str, tuple[bytes, str]]:
    """Return every static file: name -> (bytes, digest). Read once; there are few and small ones."""
    return {
        str(path.relative_to(STATIC)): (path.read_bytes(), sha256(path.read_bytes()).hexdigest()[:12])
        for path in sorted(STATIC.rglob("*"))
        if path.is_file()
    }


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("duration", "share", "count", "money", "number", "shorten", "offset", "since", "tick"):
        environment.filters[name] = getattr(words, name)
    environment.filters["glued"] = glued
    environment.filters["at"] = words.moment
    for name in ("clock", "day", "longday", "weekday", "weeknumber", "stamp"):
        environment.filters[name] = _in_zone(getattr(words, name))
    environment.globals |= {
        "link": words.link,
        "call_path": words.call_path,
        "user_path": words.user_path,
        "session_path": words.session_path,
        "many": words.many,
        "lift": words.lift,
        "group_words": words.group,
        "percent": charts.percent,
        "tail_axis": charts.tail_axis,
        "curve_chart": tail_charts.curve_chart,
        "hour_strip": tail_charts.hour_strip,
        "hours_by_day": tail_charts.by_day,
        "times_words": tail_charts.TIMES_WORDS,
        "slow_because": reasons.slow_because,
        "stacked": charts.stacked,
        "trend_bars": charts.trend,
        "day_bars": charts.day_bars,
        "case_statuses": case_words.STATUSES,
        "case_events": case_words.EVENTS,
        "state_of": case_words.state_of,
        "next_of": case_words.next_of,
        "verdict_of": case_words.verdict_of,
        "verdict_words": case_words.verdict_words,
        "verdict_explained": case_words.verdict_explained,
        "moved_most": moved_most,
        "filters_of": filters_of,
        "why": reasons.why,
        "shares_of": reasons.shares_of,
        "shares_in_words": reasons.shares_in_words,
        "statuses_in_words": reasons.statuses_in_words,
        "hostile_kinds": hostile.KINDS,
        "calls_read": CALLS_READ,
        "labels_read": LABELS_READ,
        "static": _static_url,
        "sections": SECTIONS,
        "version": version("lowlight-server"),
    }
    return environment


def _static_url(name: str) -> str:
    """The digest in the address lets a browser keep the file for good."""
    return f"/static/{name}?v={static_files()[name][1]}"


def glued(sentence: str) -> Markup:
    """Keep each number of a sentence on one line with its unit; the words stay what they are."""
    parts = words.NUMBER_AND_UNIT.split(sentence)
    # split by one group: words, number and unit, words, ...
    return Markup("").join(
        Markup('<span class="whole">{}</span>').format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )


def _in_zone(show: Any) -> Any:
    @pass_context
    def _filter(context: Context, at: Any) -> str:
        return show(at, context["frame"].zone)  # type: ignore[no-any-return]

    return _filter
