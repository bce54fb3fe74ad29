"""The demo's lexicon and sentences: events, questions about them, reviews, agreement.

Pure Python: the planner may import it. Every function draws from the `random.Random` it is given
and from nothing else, so a seed fixes the text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

PEOPLE = "Anna Ben Clara David Emma Frank Grace Henry Irene Jack Karen Leo".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Sunday".split()
ASKABLE = ("person", "object", "place", "day")


@dataclass(frozen=True)
class Topic:
    """Words that go together. Verbs have a past tense that is also their participle."""

    verbs: tuple[str, ...]
    objects: tuple[str, ...]
    qualities: tuple[str, ...]
    places: tuple[str, ...]


def _topic(verbs: str, objects: str, qualities: str, places: str) -> Topic:
    return Topic(*(tuple(words.split()) for words in (verbs, objects, qualities, places)))


TOPICS = (
    _topic(
        "cooked baked fried served",
        "bread soup cake pie rice",
        "fresh warm tasty",
        "kitchen bakery inn",
    ),
    _topic(
        "played rehearsed recorded hummed",
        "song waltz anthem tune opera",
        "slow famous loud",
        "theatre studio club",
    ),
    _topic(
        "repaired painted welded tested",
        "car bicycle engine truck tractor",
        "old rusty heavy",
        "garage factory yard",
    ),
)


@dataclass(frozen=True)
class Event:
    """Who did what to which thing, where and when; None is unsaid."""

    topic: int
    person: str | None
    verb: str
    object: str
    quality: str | None = None
    place: str | None = None
    day: str | None = None
    denied: str = ""


def event(rng: Random, said: tuple[str, ...], but: int = -1, genre: int = 2) -> Event:
    """An event of any topic other than `but`. Genres 0 and 1 have different verbs and objects."""
    topic = rng.choice([i for i in range(len(TOPICS)) if i != but])
    words = TOPICS[topic]
    span = {0: slice(0, -1), 1: slice(-1, None), 2: slice(None)}[genre]
    return Event(
        topic,
        rng.choice(PEOPLE),
        rng.choice(words.verbs[span]),
        rng.choice(words.objects[span]),
        rng.choice(words.qualities) if "quality" in said else None,
        rng.choice(words.places) if "place" in said else None,
        rng.choice(DAYS) if "day" in said else None,
    )


def reworded(rng: Random, old: Event) -> Event:
    """The same event by another verb of its topic."""
    return replace(old, verb=rng.choice(TOPICS[old.topic].verbs))


def elsewhere(rng: Random, old: Event, genre: int = 2) -> Event:
    """Another topic's event by the same person on the same day, saying as much as the old one."""
    new = event(rng, tuple(s for s in ("quality", "place") if getattr(old, s)), old.topic, genre)
    return replace(new, person=old.person, day=old.day)


def deny(rng: Random, old: Event) -> Event:
    return replace(old, denied=rng.choice(("never", "hardly")))


def drop(old: Event, *slots: str) -> Event:
    for slot in slots:
        old = tell(old, slot, None)
    return old


def tell(old: Event, slot: str, word: str | None) -> Event:
    changed: dict[str, Any] = {slot: word}
    return replace(old, **changed)


def thing(shown: Event) -> str:
    return f"the {shown.quality} {shown.object}" if shown.quality else f"the {shown.object}"


def when_where(shown: Event, without: str = "") -> str:
    words = f" in the {shown.place}" if shown.place and without != "place" else ""
    return words + (f" on {shown.day}" if shown.day and without != "day" else "")


def statement(rng: Random, shown: Event) -> str:
    """A sentence without its full stop: active, passive, or with the day in front."""
    form = rng.choice(("active", "active", "passive", "fronted"))
    verb = f"{shown.denied} {shown.verb}".strip()
    if form == "passive" or not shown.person:
        agent = f" by {shown.person}" if shown.person else ""
        return f"{thing(shown)} was {verb}{agent}{when_where(shown)}"
    if form == "fronted" and shown.day:
        tail = when_where(shown, without="day")
        return f"on {shown.day} {shown.person} {verb} {thing(shown)}{tail}"
    return f"{shown.person} {verb} {thing(shown)}{when_where(shown)}"


def question(rng: Random, shown: Event, asked: str) -> str:
    """A question, without its mark, for one slot of an event; the other said slots are its keys."""
    if asked == "person":
        if rng.random() < 0.5:
            return f"who {shown.verb} {thing(shown)}{when_where(shown)}"
        return f"by whom was {thing(shown)} {shown.verb}{when_where(shown)}"
    if asked == "object":
        word = rng.choice(("what", "which thing"))
        return f"{word} was {shown.verb} by {shown.person}{when_where(shown)}"
    words = {"place": ("where", "in which place"), "day": ("when", "on which day")}[asked]
    tail = when_where(shown, without=asked)
    return f"{rng.choice(words)} was {thing(shown)} {shown.verb} by {shown.person}{tail}"


def finish(text: str, mark: str = ".") -> str:
    return text[0].upper() + text[1:] + mark


# Reviews -----------------------------------------------------------------------------------------
SUBJECTS = "film story plot cast acting music script ending".split()
ADJECTIVES = {
    1: "good great wonderful brilliant charming funny".split(),
    0: "bad awful terrible dull boring weak".split(),
}
FEELINGS = {1: "loved enjoyed admired".split(), 0: "hated disliked regretted".split()}


# Repeated for weight.
FORMS = ("one", "one", "one", "and", "and", "but", "although", "late although")


def clause(rng: Random, polarity: int, denials: float = 0.15) -> str:
    """A clause of a polarity (1 favourable); a share `denials` of them denies the opposite."""
    denied = rng.random() < denials
    side = 1 - polarity if denied else polarity
    subject = rng.choice(SUBJECTS)
    if rng.random() < 0.35:
        never = rng.choice(("never ", "hardly ")) if denied else rng.choice(("", "really "))
        return f"i {never}{rng.choice(FEELINGS[side])} the {subject}"
    degree = rng.choice(("", "", "very ", "really ", "so "))
    negation = rng.choice(("not ", "never ", "hardly ")) if denied else ""
    return f"the {subject} was {negation}{degree}{rng.choice(ADJECTIVES[side])}"


def review(rng: Random, polarity: int) -> str:
    """One or two clauses; in a contrast the main clause decides, wherever it stands."""
    form = rng.choice(FORMS)
    main = clause(rng, polarity)
    if form == "one":
        return main
    if form == "and":
        return f"{main} and {clause(rng, polarity)}"
    other = clause(rng, 1 - polarity)
    if form == "but":
        return f"{other} but {main}"
    return f"although {other} , {main}" if form == "although" else f"{main} although {other}"


@dataclass(frozen=True)
class Opinion:
    person: str
    verb: str
    object: str
    day: str | None


def opinion(rng: Random, but: str | None, day: bool) -> Opinion:
    person = rng.choice([name for name in PEOPLE if name != but])
    feeling = rng.choice(FEELINGS[rng.randrange(2)])
    return Opinion(person, feeling, rng.choice(SUBJECTS), rng.choice(DAYS) if day else None)


def opinion_statement(rng: Random, shown: Opinion) -> str:
    day = f" on {shown.day}" if shown.day else ""
    if rng.random() < 0.3:
        return f"the {shown.object} was {shown.verb} by {shown.person}{day}"
    return f"{shown.person} {shown.verb} the {shown.object}{day}"


def opinion_question(rng: Random, shown: Opinion, asked: str) -> str:
    day = f" on {shown.day}" if shown.day else ""
    if asked == "person":
        if rng.random() < 0.5:
            return f"who {shown.verb} the {shown.object}{day}"
        return f"by whom was the {shown.object} {shown.verb}{day}"
    if asked == "object":
        return f"{rng.choice(('what', 'which thing'))} was {shown.verb} by {shown.person}{day}"
    word = rng.choice(("when", "on which day"))
    return f"{word} was the {shown.object} {shown.verb} by {shown.person}"


# Agreement and word order -------------------------------------------------------------------------
NOUNS = tuple((word, word + "s") for word in "cat dog boy girl king teacher farmer doctor".split())
ACTIONS = tuple((w + "s", w) for w in "sleep sing laugh wait smile jump".split())
DEEDS = tuple((w + "s", w) for w in "see help follow like hear know".split())
DETERMINERS = (("the", "this", "every", "a"), ("the", "these", "many", "two"))
QUALITIES = "old young tall small quiet happy".split()


def noun_phrase(rng: Random, plural: int, depth: int = 0) -> list[str]:
    words = [rng.choice(DETERMINERS[plural])]
    if rng.random() < 0.4:
        words.append(rng.choice(QUALITIES))
    words.append(rng.choice(NOUNS)[plural])
    if depth == 0 and rng.random() < 0.2:
        inner = noun_phrase(rng, rng.randrange(2), 1)
        words += [rng.choice(("near", "behind", "with")), *inner]
    return words


def grammatical(rng: Random) -> list[str]:
    return _agreeing(rng, wrong_verb=False)


def _agreeing(rng: Random, wrong_verb: bool) -> list[str]:
    plural = rng.randrange(2)
    subject = noun_phrase(rng, plural)
    number = 1 - plural if wrong_verb else plural
    if rng.random() < 0.5:
        return [*subject, rng.choice(ACTIONS)[number], rng.choice(("", "often", "today"))]
    return [*subject, rng.choice(DEEDS)[number], *noun_phrase(rng, rng.randrange(2), 1)]


def ungrammatical(rng: Random) -> list[str]:
    """A wrong verb, a determiner of the wrong number, or two neighbours that changed places."""
    fault = rng.choice(("verb", "determiner", "order", "order"))
    if fault == "verb":
        return _agreeing(rng, wrong_verb=True)
    words = [word for word in grammatical(rng) if word]
    if fault == "determiner":
        swap = {
            "this": "these",
            "these": "this",
            "every": "many",
            "many": "every",
            "a": "two",
            "two": "a",
        }
        places = [i for i, word in enumerate(words) if word in swap]
        if not places:
            return _agreeing(rng, wrong_verb=True)
        place = rng.choice(places)
        return [*words[:place], swap[words[place]], *words[place + 1 :]]
    place = rng.randrange(min(3, len(words) - 1))
    words[place], words[place + 1] = words[place + 1], words[place]
    return words
