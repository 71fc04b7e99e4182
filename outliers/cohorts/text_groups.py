"""Groups by text among a week's bad calls: words whose askers got more bad answers than all else explains.

Flow: outliers.weekly (what discovery found by fields) -> `text_groups`: each half of the people proposes,
outliers.cohorts.discovery.confirm tests among the others -> findings, named by their words, like all others.

Bad calls of one half of the people are compared with a sample of its other calls, by the words of their
inputs (CountVectorizer, scikit-learn); calls under conditions already found are left out. The word that is
most over-represented, beyond what those calls' fields let expect, is taken, then words that gather more of
the same. Plain words find wordings and not kinds; the held-back half says which of them mean something.
"""

import math
import zlib
from collections.abc import Sequence

import numpy as np
from sqlalchemy import select

from ingest.store import Store
from ingest.tables import CallText, columns
from outliers.cohorts.discovery import Tested, confirm
from outliers.cohorts.questions import Question
from outliers.cohorts.text_columns import add_words, condition_on, looked_at, words_of
from outliers.conditions import Condition
from outliers.experience.parts import BAD_FROM
from outliers.frame import Floats, Ints, Mask
from outliers.intervals import g_statistic

_text = columns(CallText)

#: Fewest bad calls of a half, and most that are read; of the others so many.
BAD_MIN, BAD_MAX, REST_MAX = 20, 3_000, 6_000
#: A word is looked at that so many of these calls have, and not more than this share of them.
CALLS_MIN, SHARE_MAX = 8, 0.5
#: G beyond the price of the vocabulary from which words are worth a test, as for fields.
WORTH_MIN = 6.6
#: Words of one group at most, and how much G another one must add.
WORDS_MAX, WORD_WORTH = 4, 10.0
#: Words tried for a group beside its first.
TRIED = 60
#: Least rise and lift of P(bad), as for fields.
RAISE_MIN, LIFT_MIN = 0.1, 1.5
PAGE = 1_000


def text_groups(store: Store, project_id: int, question: Question, found: Sequence[Tested]) -> list[Tested]:
    """Return the groups by text that stand beside what was found by fields; mostly none.

    Args:
        question: about bad calls.
        found: what fields have explained.
    """
    proposals = proposed(store, question, found)
    for condition, _name in proposals:
        for frame in (question.ground.calls, question.before):
            if frame is not None:
                add_words(store, project_id, frame, condition)
    return confirm(question, proposals, found)


def proposed(store: Store, question: Question, found: Sequence[Tested]) -> list[tuple[Condition, str]]:
    """Return conditions on texts that a half of the people proposes: (condition, "others" or "held_back")."""
    calls, y = question.ground.calls, question.y
    left = question.among.copy()
    for one in found:
        left &= ~one.mask
    proposals = []
    for half, name in ((~calls.held_back, "others"), (calls.held_back, "held_back")):
        bad, rest = left & half & (y >= BAD_FROM), left & half & (y < BAD_FROM)
        if bad.sum() < BAD_MIN or rest.sum() < BAD_MIN:
            continue
        at = np.concatenate([_sample(calls.seq, bad, BAD_MAX), _sample(calls.seq, rest, REST_MAX)])
        is_bad = y[at] >= BAD_FROM
        weight = np.where(is_bad, bad.sum() / is_bad.sum(), rest.sum() / max(1, (~is_bad).sum()))
        texts = _texts(store, calls.seq[at])
        words = _group(texts, is_bad, y[at], question.ground.expected[at], weight)
        if words:
            proposals.append((condition_on(words), name))
    return proposals


def _group(texts: Sequence[str], is_bad: Mask, y: Floats, expected: Floats, weight: Floats) -> list[str]:
    """Return the words that set the bad texts most apart; empty where none are worth a test."""
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(
        binary=True, analyzer=words_of, min_df=CALLS_MIN, max_df=SHARE_MAX, dtype=np.float64
    )
    try:
        table = counter.fit_transform(texts).tocsc()
    except ValueError:  # no word is that frequent
        return []
    names = counter.get_feature_names_out()
    price = 2 * math.log(len(names))

    def _apart(n_bad: Floats, n: Floats) -> Floats:
        return g_statistic(n_bad, n, float(is_bad.sum()), float(len(is_bad)))

    def _enough(has: Mask) -> bool:
        rate, thought = (float(np.average(values[has], weights=weight[has])) for values in (y, expected))
        rest = float(np.average(y[~has], weights=weight[~has]))
        usual = max(thought, rest)
        return rate - usual >= RAISE_MIN and rate >= LIFT_MIN * usual

    worths = _apart(np.asarray(is_bad @ table).ravel(), np.asarray(table.sum(axis=0)).ravel())
    order = np.argsort(-worths, kind="stable")[:TRIED].tolist()
    masks = {place: table[:, [place]].toarray().ravel() > 0 for place in order}
    first = next(
        (place for place in order if worths[place] >= WORTH_MIN + price and _enough(masks[place])), None
    )
    if first is None:
        return []
    words, has, worth = [str(names[first])], masks[first], float(worths[first])
    while len(words) < WORDS_MAX:
        tried = [
            (
                float(_apart(np.array([float((either & is_bad).sum())]), np.array([float(either.sum())]))[0]),
                place,
            )
            for place in order
            if names[place] not in words and _enough(either := has | masks[place])
        ]
        best, place = max(tried, default=(0.0, -1))
        if best < worth + WORD_WORTH:
            break
        words, has, worth = [*words, str(names[place])], has | masks[place], best
    return words


def _sample(seq: Ints, among: Mask, at_most: int) -> Ints:
    """Return places of at most so many of these calls, the same ones every time."""
    at = np.nonzero(among)[0]
    if len(at) <= at_most:
        return at
    drawn = np.array([zlib.crc32(str(one).encode()) for one in seq[at].tolist()])
    return np.sort(at[np.argsort(drawn, kind="stable")[:at_most]])


def _texts(store: Store, seqs: Ints) -> list[str]:
    found: dict[int, str] = {}
    for start in range(0, len(seqs), PAGE):
        with store.read() as connection:
            rows = connection.execute(
                select(_text.c.call_seq, looked_at()).where(
                    _text.c.call_seq.in_(seqs[start : start + PAGE].tolist()), _text.c.input.is_not(None)
                )
            )
            found.update(dict(rows.all()))
    return [found.get(seq, "") for seq in seqs.tolist()]
