"""What intake keeps. Times are milliseconds since 1970 (UTC), durations milliseconds, money US dollars.

Missing is not zero: an unknown token count, cost or latency is NULL. `seq` is a row's key inside the
store and never leaves it except in cursors; `id` is the caller's name for it, unique in its project.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, Index, Integer, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from ingest.packed_text import PackedText

DEFAULT_PROJECT = 1

#: SQLite gives only INTEGER primary keys a rowid; PostgreSQL wants BIGINT for a billion calls a day.
Seq = BigInteger().with_variant(Integer(), "sqlite")


class Project(SQLModel, table=True):
    """Whose calls these are. One installation starts with the project "default"."""

    __tablename__ = "project"

    seq: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)


class Slice(SQLModel, table=True):
    """One combination of the fields that latencies are counted by; '' stands for not given.

    Bounded: past `ingest.latency.SLICES_MAX` combinations new ones share the slice whose fields are "other".
    """

    __tablename__ = "slice"
    __table_args__ = (
        UniqueConstraint(
            "project_id", "provider", "model", "prompt", "prompt_version", "environment", "release"
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    project_id: int
    provider: str
    model: str
    prompt: str
    prompt_version: str
    environment: str
    release: str


class Call(SQLModel, table=True):
    """One LLM response in production, texts apart."""

    __tablename__ = "call"
    __table_args__ = (
        UniqueConstraint("project_id", "id"),
        # SQLModel does not validate table rows: the database must.
        CheckConstraint("outcome in ('answered', 'failed', 'aborted')", name="outcome_known"),
        CheckConstraint("latency_ms is null or latency_ms >= 0", name="latency_not_negative"),
        CheckConstraint("sample_rate > 0 and sample_rate <= 1", name="sample_rate_is_a_rate"),
        # The latency rides along: a window's slowest calls are found without reading the calls.
        Index("call_started", "project_id", "started_at_ms", "latency_ms"),
        Index(
            "call_session",
            "project_id",
            "session_id",
            sqlite_where=text("session_id is not null"),
            postgresql_where=text("session_id is not null"),
        ),
        Index(
            "call_user",
            "project_id",
            "user_id",
            sqlite_where=text("user_id is not null"),
            postgresql_where=text("user_id is not null"),
        ),
        Index(
            "call_response",
            "project_id",
            "response_id",
            sqlite_where=text("response_id is not null"),
            postgresql_where=text("response_id is not null"),
        ),
        Index(
            "call_trace",
            "project_id",
            "trace_id",
            sqlite_where=text("trace_id is not null"),
            postgresql_where=text("trace_id is not null"),
        ),
    )

    seq: int | None = Field(default=None, primary_key=True, sa_type=Seq)
    project_id: int
    id: str
    slice_id: int
    received_at_ms: int = Field(sa_type=BigInteger)
    started_at_ms: int = Field(sa_type=BigInteger)
    outcome: str
    latency_ms: float | None = None
    first_token_ms: float | None = None
    finish_reason: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    retries: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    user_id: str | None = None
    session_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    response_id: str | None = None
    sample_rate: float = 1.0
    #: whole lengths in characters, also where the kept text was cut or never sent
    input_chars: int | None = None
    output_chars: int | None = None
    context_chars: int | None = None
    tags: dict[str, str] | None = Field(default=None, sa_type=JSON(none_as_null=True))
    tools: list[str] | None = Field(default=None, sa_type=JSON(none_as_null=True))


class CallAlias(SQLModel, table=True):
    """An id that a client gave to a call which is kept under another; see `ingest.one_call`."""

    __tablename__ = "call_alias"
    __table_args__ = (
        Index("call_alias_call", "project_id", "call_seq"),
        {"sqlite_with_rowid": False},
    )

    project_id: int = Field(primary_key=True)
    id: str = Field(primary_key=True)
    call_seq: int = Field(sa_type=Seq)


class CallText(SQLModel, table=True):
    """A call's texts, apart, so that listing and ranking never read them.

    `input` and `output` are plain text, or JSON (a list of messages) where the `_json` flag says so.
    A text over 256 KiB keeps head and tail; `marks` then names the field: {"input": "cut"} or
    {"output": "replaced"} where NUL or lone surrogates became U+FFFD. Long ones are packed in a SQLite file
    (`ingest.packed_text`): SQL that looks into them asks for `plain(column)`.
    """

    __tablename__ = "call_text"

    call_seq: int = Field(primary_key=True, sa_type=Seq)
    input: str | None = Field(default=None, sa_type=PackedText)
    input_json: bool = False
    input_sha256: str | None = None
    output: str | None = Field(default=None, sa_type=PackedText)
    output_json: bool = False
    output_sha256: str | None = None
    context: list[str] | None = Field(default=None, sa_type=JSON(none_as_null=True))
    marks: dict[str, str] | None = Field(default=None, sa_type=JSON(none_as_null=True))


class Signal(SQLModel, table=True):
    """Something a user did about a call. `call_seq` is NULL until the call it names has arrived."""

    __tablename__ = "signal"
    __table_args__ = (
        UniqueConstraint("project_id", "id"),
        Index("signal_call", "call_seq"),
        Index("signal_at", "project_id", "at_ms"),
        Index(
            "signal_waiting",
            "project_id",
            "call_id",
            sqlite_where=text("call_seq is null"),
            postgresql_where=text("call_seq is null"),
        ),
        Index(
            "signal_waiting_response",
            "project_id",
            "response_id",
            sqlite_where=text("call_seq is null and response_id is not null"),
            postgresql_where=text("call_seq is null and response_id is not null"),
        ),
        Index(
            "signal_waiting_trace",
            "project_id",
            "trace_id",
            sqlite_where=text("call_seq is null and trace_id is not null"),
            postgresql_where=text("call_seq is null and trace_id is not null"),
        ),
        Index(
            "signal_session",
            "project_id",
            "session_id",
            sqlite_where=text("session_id is not null"),
            postgresql_where=text("session_id is not null"),
        ),
    )

    seq: int | None = Field(default=None, primary_key=True, sa_type=Seq)
    project_id: int
    id: str
    call_seq: int | None = Field(default=None, sa_type=Seq)
    call_id: str | None = None
    response_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    session_id: str | None = None
    kind: str
    value: float | None = None
    value_min: float | None = None
    value_max: float | None = None
    comment: str | None = None
    at_ms: int = Field(sa_type=BigInteger)
    received_at_ms: int = Field(sa_type=BigInteger)


class Label(SQLModel, table=True):
    """A person's level (1..7) for a call under a rubric; the same labeller's newer one replaces it."""

    __tablename__ = "label"
    __table_args__ = (
        UniqueConstraint("project_id", "call_id", "rubric", "labeller"),
        CheckConstraint("level between 1 and 7", name="level_in_range"),
    )

    seq: int | None = Field(default=None, primary_key=True, sa_type=Seq)
    project_id: int
    call_id: str
    rubric: str
    level: int
    labeller: str
    at_ms: int = Field(sa_type=BigInteger)


class EndUser(SQLModel, table=True):
    """A person of the application's, known by the application's own id; how long ago they first came."""

    __tablename__ = "end_user"
    __table_args__ = ({"sqlite_with_rowid": False},)

    project_id: int = Field(primary_key=True)
    user_id: str = Field(primary_key=True)
    first_seen_at_ms: int = Field(sa_type=BigInteger)


class LatencyCount(SQLModel, table=True):
    """How many calls of one slice and hour had a latency in one bucket (`ingest.latency`)."""

    __tablename__ = "latency_count"
    __table_args__ = (
        CheckConstraint("measure in ('total', 'first_token', 'per_output_token')", name="measure_known"),
        CheckConstraint("outcome in ('answered', 'failed', 'aborted')", name="counted_outcome_known"),
        Index("latency_count_hour", "hour"),
        {"sqlite_with_rowid": False},
    )

    # The key's order is the reader's: a window of one measure is one range per slice.
    slice_id: int = Field(primary_key=True)
    measure: str = Field(primary_key=True)
    #: hours since 1970, UTC
    hour: int = Field(primary_key=True)
    outcome: str = Field(primary_key=True)
    bucket: int = Field(primary_key=True)
    n: int
    #: sum of 1 / sample_rate
    weight: float


class LatencyCounted(SQLModel, table=True):
    """How far `latency_count` is: every call up to `through_seq` is counted in it, none behind. One row."""

    __tablename__ = "latency_counted"
    __table_args__ = (CheckConstraint("id = 1", name="one_latency_counted"),)

    id: int = Field(default=1, primary_key=True)
    through_seq: int = Field(sa_type=Seq)


class Todo(SQLModel, table=True):
    """Work for the critic: intake writes it in the call's own transaction and knows no critic."""

    __tablename__ = "todo"

    seq: int | None = Field(default=None, primary_key=True, sa_type=Seq)
    call_seq: int = Field(sa_type=Seq)
    #: 'new' (the call just arrived), 'signal' (a late one), 'text' (late texts)
    reason: str


class OtlpFragment(SQLModel, table=True):
    """What one span or log record told of a call, kept until the call closes (docs/decisions, OTLP).

    A row is open while `due_at_ms` is set; then its facts are in a call, or of use to none, and only what
    later fragments may need to find that call remains, for an hour.
    """

    __tablename__ = "otlp_fragment"
    __table_args__ = (
        UniqueConstraint("project_id", "trace_id", "span_id", "digest"),
        CheckConstraint(
            "role in ('whole', 'client', 'head', 'tail', 'content', 'scope')", name="fragment_role_known"
        ),
        Index(
            "otlp_fragment_due",
            "due_at_ms",
            sqlite_where=text("due_at_ms is not null"),
            postgresql_where=text("due_at_ms is not null"),
        ),
        Index(
            "otlp_fragment_closed",
            "received_at_ms",
            sqlite_where=text("due_at_ms is null"),
            postgresql_where=text("due_at_ms is null"),
        ),
        Index(
            "otlp_fragment_response",
            "project_id",
            "response_id",
            sqlite_where=text("response_id is not null"),
            postgresql_where=text("response_id is not null"),
        ),
        Index(
            "otlp_fragment_pair",
            "project_id",
            "pair_key",
            sqlite_where=text("pair_key is not null"),
            postgresql_where=text("pair_key is not null"),
        ),
    )

    seq: int | None = Field(default=None, primary_key=True, sa_type=Seq)
    project_id: int
    trace_id: str
    span_id: str
    #: of what was told: the same span sent again is the same fragment
    digest: str
    role: str
    parent_span_id: str | None = None
    #: nanoseconds since 1970; of a record both are its time, 0 where it told none
    started_ns: int = Field(sa_type=BigInteger)
    ended_ns: int = Field(sa_type=BigInteger)
    instance: str
    response_id: str | None = None
    pair_key: str | None = None
    #: `ingest.otlp.facts.Facts` as JSON
    facts: str
    received_at_ms: int = Field(sa_type=BigInteger)
    due_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    call_seq: int | None = Field(default=None, sa_type=Seq)


def columns(table: type[SQLModel]) -> Any:
    """Return the SQLAlchemy table behind a SQLModel class, for Core statements."""
    return table.__table__  # type: ignore[attr-defined]
