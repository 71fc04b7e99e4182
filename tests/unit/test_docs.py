"""The documents are tested: a setting that the README does not name fails the build."""

import re
from pathlib import Path

from starlette.routing import Route

from api.door.gate import UNZIPPED_BYTES_MAX, WIRE_BYTES_MAX
from api.door.short_bodies import SHORT_BYTES_MAX
from api.routes import cases, explain, intake, otlp, read, reports
from api.settings_doc import README, with_table
from ingest import wire
from ingest.texts import KEPT_BYTES_MAX

ROOT = README.parent


def test_the_readme_lists_every_setting_as_the_code_has_it() -> None:
    readme = README.read_text()
    assert with_table(readme) == readme, "run: python -m api.settings_doc"


def test_links_in_the_documents_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
    broken = [
        f"{page.relative_to(ROOT)} -> {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_decisions_are_numbered_without_gap_or_double() -> None:
    numbers = [int(page.name[:4]) for page in sorted(Path(ROOT / "docs/decisions").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_no_committed_file_names_a_package_registry() -> None:
    """Pins are name==version; where they are fetched from is the machine's own business."""
    for name in ("constraints.txt", "dev-requirements.txt", "pyproject.toml", "Makefile", ".ci/run"):
        assert not re.search(r"https?://|--index-url|find-links", (ROOT / name).read_text()), name


def test_every_pin_is_a_name_and_a_version() -> None:
    pins = (ROOT / "constraints.txt").read_text().split()
    assert pins
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!-]*", pin)] == []


def test_the_page_of_the_http_api_names_every_field_and_every_limit() -> None:
    page = (ROOT / "docs/http.md").read_text()
    named = set(re.findall(r"\w+", page))
    sent = (wire.Call, wire.Failure, wire.Prompt, wire.Usage, wire.Signal, wire.Label, wire.Receipt)
    assert {field for model in sent for field in model.model_fields} <= named
    assert set(wire.SIGNAL_KINDS) <= named
    mebi, kibi = 1 << 20, 1 << 10
    for limit in (
        f"{WIRE_BYTES_MAX // mebi} MiB as sent, {UNZIPPED_BYTES_MAX // mebi} MiB unpacked",
        f"{wire.ITEMS_MAX:,} items, or, for what persons send, {SHORT_BYTES_MAX // kibi} KiB",
        f"{KEPT_BYTES_MAX // kibi} KiB together",
        f"{wire.NAME_CHARS_MAX} characters at most, a call {wire.TAGS_MAX} tags and {wire.TOOLS_MAX} tools",
        f"({wire.ID_CHARS_MAX} characters at most)",
    ):
        assert limit in page


def test_the_page_of_the_http_api_names_the_addresses_that_are_there() -> None:
    said = set(re.findall(r"/v1/[a-z_/{}]+[a-z}]", (ROOT / "docs/http.md").read_text()))
    routers = (cases.router, explain.router, intake.router, otlp.router, read.router, reports.router)
    there = {route.path for router in routers for route in router.routes if isinstance(route, Route)}
    there = {path.replace("{call_id:path}", "{id}") for path in there} | {"/v1/cases/{week}"}
    assert said <= there
    assert {path for path in there if path.startswith("/v1/")} - said <= {
        *(path for path in there if path.startswith("/v1/cases/{week}/")),
        "/v1/report/progress",
    }
