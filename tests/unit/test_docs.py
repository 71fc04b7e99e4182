"""The documents are tested: a setting that the README does not name fails the build."""

import re
from pathlib import Path

from api.settings_doc import README, with_table

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
