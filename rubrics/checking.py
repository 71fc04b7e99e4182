"""The check of one rubric file: everything that is wrong with it, each with its line and the remedy.

Flow: a file's text -> Jinja's parser -> `check_source` -> settings and view, or problems. Nothing runs:
what `rubrics.language` does not allow is refused by its place in the syntax tree.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field

from jinja2 import TemplateSyntaxError, nodes

from rubrics.fences import ITEM_CHARS
from rubrics.language import (
    FIELD_CHARS_MAX,
    LISTS,
    TAG_CHARS_MAX,
    VIEW_CHARS_MAX,
    compile_view,
    environment,
    lexing_environment,
)
from rubrics.settings import NotLiteral, Report, RubricSettings, literal, read_settings

FIELDS = (*FIELD_CHARS_MAX, "messages", "tags")

_HOW_FIELDS_ARE_USED = (
    'write {{ output }}, {% if context %}, {% if finish_reason == "length" %} or {% for passage in context %}'
)

_TOO_DEEP = "the template is nested too deeply, or has a number too long; a rubric is text and a few fields"
_ONE_FILE = "a rubric is one file, so that its version says all; copy the text here"
_REFUSED_TAGS: dict[type[nodes.Node], tuple[str, str]] = {
    nodes.Include: ("include", _ONE_FILE),
    nodes.Import: ("import", _ONE_FILE),
    nodes.FromImport: ("from", _ONE_FILE),
    nodes.Extends: ("extends", _ONE_FILE),
    nodes.Block: ("block", "there is nothing to extend; write the text in place"),
    nodes.Macro: ("macro", "write the text in place"),
    nodes.CallBlock: ("call", "write the text in place"),
    nodes.FilterBlock: ("filter", "write the text as it should read"),
    nodes.With: ("with", "write the field's name where you need it"),
    nodes.AssignBlock: ("set", 'without "=" it has no place here; write {% set name = value %}'),
    nodes.Scope: ("autoescape", "a view is plain text, and fields fence themselves; remove it"),
}


@dataclass
class Checked:
    """A file that was parsed: its settings, its view's source, and what is wrong with it by line."""

    settings: RubricSettings = field(default_factory=RubricSettings)
    view: str = ""
    problems: list[tuple[int, str]] = field(default_factory=list)


def check_source(source: str) -> Checked:
    """Return what a rubric's text sets and shows, with every problem found in it."""
    checked = Checked()

    def report(line: int, what: str) -> None:
        checked.problems.append((line, what))

    try:
        template = environment().parse(source)
    except TemplateSyntaxError as error:
        report(error.lineno, f"{(error.message or 'not a template').rstrip('.')}; correct the Jinja syntax")
        return checked
    except (RecursionError, ValueError):  # Python's own bounds on nesting and on digits
        report(1, _TOO_DEEP)
        return checked
    assigns = [node for node in template.body if isinstance(node, nodes.Assign)]
    try:
        checked.settings = read_settings(assigns, report)
        body = _Body(report)
        body.check([node for node in template.body if not isinstance(node, nodes.Assign)])
        checked.view = view_source(source)
        if not checked.problems:
            compile_view(checked.view)
    except (RecursionError, SyntaxError, MemoryError):  # Python's bounds on what Jinja compiles to
        report(1, _TOO_DEEP)
        return checked
    last_line = source.count("\n", 0, len(source.rstrip())) + 1
    if not body.shows_output and not checked.problems:
        report(last_line, "the view never shows the output that is to be judged; add {{ output }}")
    if body.chars_max > VIEW_CHARS_MAX:
        report(
            last_line,
            f"the view can come to {body.chars_max:,} characters (at most {VIEW_CHARS_MAX:,} fit a critic); "
            "print each long field once",
        )
    checked.problems.sort(key=lambda problem: problem[0])
    return checked


def view_source(source: str) -> str:
    """Return a file's text without its `{% set %}` lines and comments, blank ends removed: the view.

    Rubrics of one view share a request, so what does not change what a critic sees is left out.
    """
    kept = ""
    statement: list[str] = []
    in_comment = alone = False
    for _line, kind, text in lexing_environment().lex(source):
        if kind == "comment_begin" or in_comment:
            in_comment = kind != "comment_end"
            alone = _starts_a_line(kept)
        elif kind == "block_begin" or statement:
            statement.append(text)
            if kind == "block_end":
                words = [part for part in statement if part.strip()]
                if words[1] == "set":
                    alone = _starts_a_line(kept)
                else:
                    kept += "".join(statement)
                statement = []
        else:
            # A line that held nothing but what was left out goes with it.
            kept += text.removeprefix("\n") if alone else text
            alone = False
    return kept.strip()


def _starts_a_line(text: str) -> bool:
    return not text.rpartition("\n")[2].strip()


class _Body:
    """Walks the view. `chars_max` adds up the most it can print, both branches of each condition."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.shows_output = False
        self.chars_max = 0

    def check(self, body: Sequence[nodes.Node], loop: tuple[str, str] | None = None) -> None:
        """Check statements; `loop` is the loop they are in, as (variable, list)."""
        for node in body:
            match node:
                case nodes.Output():
                    for part in node.nodes:
                        self._printed(part, loop)
                case nodes.If():
                    for branch in (node, *node.elif_):
                        self._condition(branch.test, loop)
                        self.check(branch.body, loop)
                    self.check(node.else_, loop)
                case nodes.For():
                    self._loop(node, loop)
                case nodes.Assign():
                    self._report(node.lineno, "a set inside a block; settings stand at the top of the file")
                case _:
                    self._refuse_tag(node)

    def _refuse_tag(self, node: nodes.Node) -> None:
        tag, remedy = _REFUSED_TAGS.get(type(node), (type(node).__name__.lower(), _HOW_FIELDS_ARE_USED))
        line = node.body[0].lineno if isinstance(node, nodes.Scope) else node.lineno
        self._report(line, f"{{% {tag} %}} is not allowed: {remedy}")

    def _loop(self, node: nodes.For, loop: tuple[str, str] | None) -> None:
        listed = _field_name(node.iter)
        if not isinstance(node.target, nodes.Name) or listed not in LISTS:
            self._report(
                node.lineno,
                "a loop goes over the context's passages or the messages: "
                "{% for passage in context %} or {% for message in messages %}",
            )
            return
        if loop is not None:
            self._report(node.lineno, "a loop inside a loop; one is enough to show a list")
            return
        if node.recursive or node.test is not None:
            self._report(node.lineno, "a loop has no `recursive` and no `if`; put an {% if %} inside it")
            return
        if node.target.name in FIELDS or node.target.name in ("call", "loop"):
            self._report(node.lineno, f"the loop hides the field {node.target.name}; name its item otherwise")
            return
        self.check(node.body, (node.target.name, listed))
        self.check(node.else_)

    def _printed(self, node: nodes.Node, loop: tuple[str, str] | None) -> None:
        times = 1 if loop is None else FIELD_CHARS_MAX[LISTS[loop[1]]] // ITEM_CHARS
        if isinstance(node, nodes.TemplateData):
            self.chars_max += len(node.data) * times
        elif isinstance(node, nodes.Const) and isinstance(node.value, str):
            self.chars_max += len(node.value) * times
        elif loop is not None and _is_name(node, loop[0]):
            self.chars_max += FIELD_CHARS_MAX[LISTS[loop[1]]]
        elif self._known(node, loop):
            name = _field_name(node)
            self.shows_output = self.shows_output or name == "output"
            if name == "tags":
                self._report(node.lineno, "tags is a mapping; print one of them: {{ tags.NAME }}")
            field_name = LISTS.get(name or "", name or "")
            self.chars_max += FIELD_CHARS_MAX.get(field_name, TAG_CHARS_MAX) * times

    def _condition(self, node: nodes.Node, loop: tuple[str, str] | None) -> None:
        match node:
            case nodes.Not():
                self._condition(node.node, loop)
            case nodes.And() | nodes.Or():
                self._condition(node.left, loop)
                self._condition(node.right, loop)
            case nodes.Compare():
                self._known(node.expr, loop)
                self._compared(node)
            case nodes.Const():
                pass
            case _ if loop is None or not _is_name(node, loop[0]):
                self._known(node, loop)

    def _compared(self, node: nodes.Compare) -> None:
        for operand in node.ops:
            try:
                value = literal(operand.expr)
            except NotLiteral:
                value = None
            wanted: type = str if operand.op in ("eq", "ne") else list
            if operand.op not in ("eq", "ne", "in", "notin") or not isinstance(value, wanted):
                self._report(
                    node.lineno,
                    'a field is compared with a text (== "length") or a list of texts '
                    '(in ["length", "content_filter"]) and with nothing else',
                )
                return

    def _known(self, node: nodes.Node, loop: tuple[str, str] | None) -> bool:
        """Tell whether the node is a field of the call, or `message.role`; report it where it is not."""
        variable = loop[0] if loop else None
        if _field_name(node) in FIELDS:
            return True
        match node:
            case nodes.Getattr(node=nodes.Name(name=name), attr="role") if (
                loop is not None and name == variable and loop[1] == "messages"
            ):
                return True
            case nodes.Getattr(node=target) if _field_name(target) == "tags" and node.attr.isidentifier():
                if not node.attr.startswith("_"):
                    return True
            case nodes.Getitem(node=target, arg=nodes.Const(value=str())) if _field_name(target) == "tags":
                return True
        self._report(node.lineno, _why_not(node, variable))
        return False


def _field_name(node: nodes.Node) -> str | None:
    """Return the name a node reads, with `call.` in front or not; None where it does more than that."""
    match node:
        case nodes.Name(name=name) if name != "call":
            return str(name)
        case nodes.Getattr(node=nodes.Name(name="call"), attr=attr) if attr in FIELDS:
            return attr
    return None


def _is_name(node: nodes.Node, name: str) -> bool:
    return isinstance(node, nodes.Name) and node.name == name


def _why_not(node: nodes.Node, variable: str | None) -> str:
    names = [*FIELDS, *([variable] if variable else [])]
    match node:
        case nodes.Name(name="call"):
            return (
                f"call is the whole call; print a field of it, such as {{{{ output }}}}: {', '.join(FIELDS)}"
            )
        case nodes.Name(name=name):
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
            return f"{name} is undefined; {hint}"
        case nodes.Getattr(node=nodes.Name(name="call"), attr=attr):
            return f"call.{attr} is undefined; there are {', '.join(FIELDS)}"
        case nodes.Filter():
            return f"the filter {node.name} is not allowed; {_HOW_FIELDS_ARE_USED}"
        case nodes.Test():
            return f"the test `is {node.name}` is not allowed; {_HOW_FIELDS_ARE_USED}"
        case nodes.Call():
            return f"nothing can be called in a rubric; {_HOW_FIELDS_ARE_USED}"
        case nodes.Getattr():
            return f"the attribute .{node.attr} is not allowed; {_HOW_FIELDS_ARE_USED}"
        case nodes.Getitem():
            return f"the index or slice [...] is not allowed; {_HOW_FIELDS_ARE_USED}"
        case nodes.Const():
            return "only texts can be printed and compared"
    return f"nothing is computed in a rubric; {_HOW_FIELDS_ARE_USED}"
