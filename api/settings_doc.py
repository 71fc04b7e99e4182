"""The README's settings table, generated from `Settings`: `python -m api.settings_doc` rewrites it."""

from pathlib import Path

from ingest.settings import Settings

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- settings: begin (python -m api.settings_doc) -->", "<!-- settings: end -->"


def settings_table() -> str:
    """Return the settings as a Markdown table: variable, default, meaning."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        variable = field.validation_alias or f"LOWLIGHT_{name.upper()}"
        value = field.get_default(call_default_factory=True)
        default = "" if value in (None, {}) else str(value)
        if name == "rubrics_dir":
            default = "the shipped ones"
        lines.append(f"| `{variable}` | {f'`{default}`' if default else ''} | {field.description} |")
    return "\n".join(lines)


def with_table(readme: str) -> str:
    """Return the README with the table between its two marks replaced.

    Raises:
        ValueError: a mark is missing.
    """
    head, rest = readme.split(BEGIN)
    _old, tail = rest.split(END)
    return f"{head}{BEGIN}\n{settings_table()}\n{END}{tail}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
