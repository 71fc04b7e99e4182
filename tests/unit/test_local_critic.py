"""The local critic on texts written here, none of which any fit has seen."""

import json
import math
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from critic.local import Grade, LocalCritic, Texts, Ungraded, fit_guard, input_text
from critic.local.critic import WITHOUT_SOURCE
from critic.local.features import FEATURES, Features
from critic.local.plants import KINDS
from tests.shared_data import data_folder
from tests.unit.support_calls import GROUNDED, REPLIES, ordinary_calls

BASE_RATE = 0.02
KETTLE = REPLIES[0][1]
KETTLE_REPLY = REPLIES[0][2]

BROKEN = {
    "empty": Texts(KETTLE, "  \n"),
    "truncated": Texts(KETTLE, KETTLE_REPLY[:141]),
    "off_topic": Texts(GROUNDED.input, REPLIES[1][2], GROUNDED.context),
    "wrong_language": Texts(REPLIES[2][1], REPLIES[1][2]),
    "repeated": Texts(KETTLE, KETTLE_REPLY + " We will repair it within ten days." * 6),
    "refusal": Texts(KETTLE, "I'm sorry, but I am not able to assist you with this request."),
    "swapped": Texts(
        GROUNDED.input,
        "You can return a lamp within 85 days of Ohio. It must be Kramer and in its Benson box, and the "
        "refund of the full Lister reaches your card after 23 days.",
        GROUNDED.context,
    ),
    "rude": Texts(KETTLE, "Are you too stupid to read the label? " + KETTLE_REPLY),
}


@pytest.fixture(scope="module")
def critic() -> LocalCritic:
    """The critic of a fresh installation."""
    return LocalCritic(BASE_RATE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_failure_stands_out_from_ordinary_replies(critic: LocalCritic, kind: str) -> None:
    """Each kind is likelier than in every ordinary English reply, and several times the base rate."""
    ordinary = critic.read([*ordinary_calls()[:2], GROUNDED])
    broken = critic.read([BROKEN[kind]])[0]
    assert broken.p_fail is not None
    assert broken.p_fail > 2 * BASE_RATE
    assert broken.p_fail > max(reading.p_fail or 0.0 for reading in ordinary)
    assert broken.kind == kind


@pytest.mark.parametrize(("language", "question", "reply"), REPLIES, ids=[row[0] for row in REPLIES])
def test_an_ordinary_reply_is_no_failure_in_any_language(
    critic: LocalCritic, language: str, question: str, reply: str
) -> None:
    """A team that does not write English must not drown in false alarms."""
    reading = critic.read([Texts(question, reply)])[0]
    assert reading.p_fail is not None
    assert reading.p_fail < 0.05
    assert reading.output_language == language
    assert (reading.kinds or {})["wrong_language"] < 0.02


def test_an_answer_in_the_language_that_was_asked_for_is_right(critic: LocalCritic) -> None:
    """A translation differs from its input's language on purpose; a mixed input has two."""
    german, english = REPLIES[2][2], "Please translate our reply about shipping to Austria into German."
    asked, unasked = critic.read(
        [Texts(english, german), Texts("How long does shipping to Austria take, please?", german)]
    )
    assert (asked.kinds or {})["wrong_language"] < 0.1 < 0.5 < (unasked.kinds or {})["wrong_language"]


def test_the_kinds_sum_to_the_probability_and_why_to_one_at_most(critic: LocalCritic) -> None:
    """What a page shows as parts must be parts of the whole."""
    for reading in critic.read([*BROKEN.values(), *ordinary_calls()]):
        assert reading.p_fail is not None
        assert reading.kinds is not None
        assert math.isclose(sum(reading.kinds.values()), reading.p_fail, abs_tol=1e-9)
        assert 0 < sum(reading.why.values()) <= 1.0 + 1e-6


def test_a_higher_base_rate_raises_every_probability() -> None:
    """The guard is fitted at even odds; the setting, not the fit, says how common failures are."""
    calls = ordinary_calls()
    rare, common = (LocalCritic(rate).read(calls) for rate in (0.005, 0.2))
    assert all((one.p_fail or 0) < (other.p_fail or 0) for one, other in zip(rare, common, strict=True))


def test_an_output_that_was_never_sent_cannot_be_read(critic: LocalCritic) -> None:
    """Missing is not empty."""
    missing = critic.read([Texts("Hello?", None)])[0]
    assert (missing.p_fail, missing.kind, missing.grounding) == (None, None, None)
    assert critic.grade(missing, ("rude",)) == Ungraded("no output was sent with this call")


def test_a_grade_is_a_distribution_whose_low_mass_is_the_visible_failure(critic: LocalCritic) -> None:
    """The guard's probability of the rubric's kinds is what lies on levels 1 and 2."""
    rude = Texts(GROUNDED.input, f"Are you an idiot? {GROUNDED.output}", GROUNDED.context)
    for call in (rude, GROUNDED, BROKEN["off_topic"], BROKEN["swapped"]):
        reading = critic.read([call])[0]
        grade = critic.grade(reading, ("rude", "refusal"))
        assert isinstance(grade, Grade)
        assert len(grade.probabilities) == 7
        assert math.isclose(math.fsum(grade.probabilities), 1.0, abs_tol=1e-12)
        assert reading.kinds is not None
        visible = reading.kinds["rude"] + reading.kinds["refusal"]
        assert math.isclose(grade.probabilities[0] + grade.probabilities[1], visible, abs_tol=1e-9)


def test_what_no_model_read_is_not_graded(critic: LocalCritic) -> None:
    """No level where nothing visible answers the rubric, with the reason in words."""
    plain, grounded = critic.read([ordinary_calls()[0], GROUNDED])
    assert critic.grade(plain, ()) == Ungraded("no model read the text")
    assert critic.grade(grounded, ()) == Ungraded("no model read the text")
    assert isinstance(critic.grade(grounded, ("grounding",)), Grade)


@pytest.mark.parametrize("visible", [("grounding",), ("rude",), KINDS, ("swapped", "grounding")])
def test_without_a_source_the_level_is_withheld_and_the_failure_is_not(
    critic: LocalCritic, visible: tuple[str, ...]
) -> None:
    """However sure the guard is: a level would be a number for what nobody read."""
    for reading in critic.read([BROKEN["rude"], *ordinary_calls()]):
        assert critic.grade(reading, visible) == Ungraded(WITHOUT_SOURCE)
    rude = critic.read([BROKEN["rude"]])[0]
    assert rude.kind == "rude"
    assert (rude.p_fail or 0.0) > 0.5


def test_an_empty_output_is_answered_where_a_rubric_names_it(critic: LocalCritic) -> None:
    """Nothing has to be read to say that there is no answer, with a source or without."""
    for context in ((), GROUNDED.context):
        reading = critic.read([Texts(KETTLE, " \n", context)])[0]
        grade = critic.grade(reading, ("empty", "truncated"))
        assert isinstance(grade, Grade)
        assert grade.score < 1.5
        assert critic.grade(reading, ("rude",)) == Ungraded("the output is empty: there is nothing to judge")


def test_closer_to_the_source_grades_higher(critic: LocalCritic) -> None:
    """Grounding ranks: the reply taken from the source above the one about something else."""
    close, far = critic.read([GROUNDED, BROKEN["off_topic"]])
    assert close.grounding is not None
    assert far.grounding is not None
    assert close.grounding > far.grounding
    high, low = (critic.grade(reading, ("grounding",)) for reading in (close, far))
    assert isinstance(high, Grade)
    assert isinstance(low, Grade)
    assert high.score > low.score
    assert sum(low.probabilities[:2]) > BASE_RATE > sum(high.probabilities[:2])


def test_a_fit_survives_json_and_reads_the_same() -> None:
    """A fit is stored as JSON numbers: nothing may be lost, and no text may be in it."""
    own = ordinary_calls() * 6
    fit = fit_guard(own, seed=1)
    stored = json.dumps(fit)
    assert not any(word in stored for word in ("kettle", "Versand", "suscripción"))
    first, again = LocalCritic(BASE_RATE, fit), LocalCritic(BASE_RATE, json.loads(stored))
    assert first.read(own[:13]) == again.read(own[:13])
    assert "own 78" in first.version
    assert fit_guard(own, seed=1) == fit


def test_a_fit_of_another_version_gives_way_to_the_shipped_one() -> None:
    """An old row in the store must not stop the critic."""
    fit = {"n": 5, "guard": {"features": ["length"], "kinds": []}, "grounding": {}}
    critic = LocalCritic(BASE_RATE, fit)
    assert "shipped" in critic.version
    assert critic.read([GROUNDED])[0].p_fail is not None


@pytest.mark.parametrize("rate", [0.0, 1.0, -1.0])
def test_a_base_rate_outside_its_bounds_is_refused(rate: float) -> None:
    """0 and 1 would make every answer the same."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        LocalCritic(rate)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300), st.text(max_size=600), st.lists(st.text(max_size=300), max_size=3))
def test_any_text_can_be_read(asked: str, output: str, context: list[str]) -> None:
    """Traffic holds everything: NULs, lone accents, one long word, no words at all."""
    reading = _SHIPPED.read([Texts(asked, output, tuple(context))])[0]
    assert reading.p_fail is not None
    assert 0.0 <= reading.p_fail <= 1.0
    assert all(math.isfinite(value) for value in (reading.kinds or {}).values())
    for visible in (KINDS, (*KINDS, "grounding")):
        grade = _SHIPPED.grade(reading, visible)
        if reading.grounding is None and reading.kind != "empty":
            assert grade == Ungraded(WITHOUT_SOURCE)
            continue
        assert isinstance(grade, Grade)
        assert math.isclose(math.fsum(grade.probabilities), 1.0, abs_tol=1e-9)
        assert min(grade.probabilities) >= 0.0


_SHIPPED = LocalCritic(BASE_RATE)


@pytest.mark.parametrize(
    "text",
    ["word " * 200_000, "a" * 1_000_000, "(" * 500_000, "é中" * 300_000, "1.\n" * 300_000, "Was? " * 200_000],
    ids=["words", "one word", "brackets", "mixed scripts", "lines", "questions"],
)
def test_a_huge_text_takes_bounded_time(critic: LocalCritic, text: str) -> None:
    """One call of a megabyte must not hold up the critic: it is read at head and tail."""
    started = time.process_time()
    reading = critic.read([Texts(text, text, (text, text))])[0]
    assert time.process_time() - started < 1.0
    assert reading.p_fail is not None


def test_features_are_the_named_ones_and_finite() -> None:
    """Columns are found by name; a fit names them, so the order is part of the promise."""
    features = Features([*BROKEN.values(), Texts("", "")])
    assert features.values.shape == (9, len(FEATURES))
    assert len(set(FEATURES)) == len(FEATURES)
    assert math.isfinite(features.values.sum())
    assert features.has_source.tolist() == [bool(call.context) for call in BROKEN.values()] + [False]


def test_a_long_input_is_its_own_source(critic: LocalCritic) -> None:
    """A document pasted into the question is what the answer must keep to."""
    document = " ".join(GROUNDED.context * 4)
    pasted = Texts(f"{document}\n\n{GROUNDED.input}", GROUNDED.output)
    assert len(pasted.input) > 800
    assert critic.read([pasted])[0].grounding is not None


@pytest.mark.parametrize(
    ("given_input", "is_json", "expected"),
    [
        ("plain", False, "plain"),
        ('[{"role": "system", "content": "s"}, {"role": "user", "content": "first"}]', True, "first"),
        (
            '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, '
            '{"role": "user", "content": [{"type": "text", "text": "c"}, {"type": "image_url"}]}]',
            True,
            "c",
        ),
        ('[{"role": "tool", "content": "result"}]', True, "result"),
        ("{not json", True, "{not json"),
        ("[]", True, "[]"),
    ],
)
def test_the_input_is_what_the_user_asked_last(given_input: str, is_json: bool, expected: str) -> None:
    """Messages come in several shapes; the last user message is the question."""
    assert input_text(given_input, is_json) == expected


def test_reading_needs_neither_scikit_learn_nor_scipy() -> None:
    """The critic's process stays small: only fitting imports the heavy packages."""
    program = (
        "import sys; from critic.local import LocalCritic, Texts; LocalCritic(.02).read([Texts('a', 'b')]); "
        "sys.exit(any(name.split('.')[0] in ('sklearn', 'scipy') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.data
def test_the_shipped_guard_catches_what_it_never_saw() -> None:
    """HaluEval is in no fit: plants with the bench's phrases stand out from its ordinary outputs."""
    from critic.local.plants import plant
    from tests.bench.plant_phrases import TESTING
    from tests.bench.rated_sets import halueval

    calls = [row.call for row in halueval(data_folder("halueval_general"))[:150]]
    planted = [one.call for one in plant(calls, seed=5, phrases=TESTING, each=10)]
    ordinary = sorted(reading.p_fail or 0.0 for reading in _SHIPPED.read(calls))
    broken = [reading.p_fail or 0.0 for reading in _SHIPPED.read(planted)]
    alarm = ordinary[int(len(ordinary) * 0.95)]
    assert sum(value > alarm for value in broken) / len(broken) > 0.5
