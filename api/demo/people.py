"""The people of the demo: bakers who know the product, some who came last week, some who came this week."""

import random
from dataclasses import dataclass

from api.demo.texts import written

#: Share of people by language.
SPOKEN = {"en": 0.54, "de": 0.20, "es": 0.13, "fr": 0.13}
PLANS = {"loaf": 0.45, "baker": 0.4, "bakehouse": 0.15}


@dataclass(frozen=True)
class Person:
    """One user of the product.

    Attributes:
        first_day: day of the demo's main week on which they signed up, 0 for Monday; None if before it.
        recent: signed up in the week before, so they still use the welcome chat.
        tries_v12: whether the new version of the support prompt answers them once it is rolled out.
        meets_rudeness: whether the welcome chat is rude to them on their first day.
    """

    id: str
    shop: str
    language: str
    plan: str
    surface: str
    first_day: int | None = None
    recent: bool = False
    tries_v12: bool = False
    meets_rudeness: bool = False


def known_people(source: random.Random, n: int) -> list[Person]:
    """Return people who were there before the main week; a fifth of them signed up the week before."""
    return [_person(source, f"u-{1000 + 7 * number}", recent=number % 5 == 0) for number in range(n)]


def new_people(source: random.Random, n: int, week: str) -> list[Person]:
    """Return people who sign up during the main week; they start in English, on a trial."""
    prefix = f"u-{week[-3:].lower()}-"
    return [_newcomer(source, f"{prefix}{number + 1:03d}", number) for number in range(n)]


def _person(source: random.Random, user_id: str, *, recent: bool) -> Person:
    languages = ["en"] if recent else list(SPOKEN)
    weights = [1.0] if recent else list(SPOKEN.values())
    return Person(
        id=user_id,
        shop=source.choice(written("names")["people"]["shops"]),
        language=source.choices(languages, weights)[0],
        plan="trial" if recent else source.choices(list(PLANS), list(PLANS.values()))[0],
        surface=source.choices(("web", "tablet", "phone"), (0.55, 0.25, 0.2))[0],
        recent=recent,
        tries_v12=source.random() < 0.6,
    )


def _newcomer(source: random.Random, user_id: str, number: int) -> Person:
    return Person(
        id=user_id,
        shop=source.choice(written("names")["people"]["shops"]),
        language="en",
        plan="trial",
        surface=source.choices(("web", "phone"), (0.7, 0.3))[0],
        first_day=number % 7,
        tries_v12=source.random() < 0.6,
        meets_rudeness=source.random() < 0.42,
    )
