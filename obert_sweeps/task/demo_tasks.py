"""How each of the demo's tasks draws one row of a wanted label.

Pair tasks turn on what is said and what is denied, with a share of harder rows that turn on which
topic is meant, so that a small encoder comes near the top but not to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from . import demo_grammar as g

Row = dict[str, Any]
OPTIONAL = ("quality", "place", "day")


def _said(rng: Random, *always: str) -> tuple[str, ...]:
    return (*always, *(slot for slot in OPTIONAL if slot not in always and rng.random() < 0.35))


def _sst2(rng: Random, label: int) -> Row:
    return {"sentence": g.review(rng, label) + " ."}


def _cola(rng: Random, label: int) -> Row:
    words = g.grammatical(rng) if label else g.ungrammatical(rng)
    return {"sentence": g.finish(" ".join(word for word in words if word))}


def _fact(rng: Random, shown: g.Event, said: bool) -> g.Event:
    """The event with a place or a day more (`said`), or less."""
    slots = [slot for slot in ("place", "day") if (getattr(shown, slot) is None) == said]
    slot = rng.choice(slots)
    words = {"place": g.TOPICS[shown.topic].places, "day": g.DAYS}[slot]
    return g.tell(shown, slot, rng.choice(words) if said else None)


def _news(rng: Random, genre: int = 2, facts: int | None = None) -> g.Event:
    """An event with one of place and day, or (`facts` 0, 2) neither or both."""
    said = {0: (), 1: (rng.choice(("place", "day")),), 2: ("place", "day")}
    quality = ("quality",) if rng.random() < 0.3 else ()
    return g.event(rng, (*said[1 if facts is None else facts], *quality), genre=genre)


def _other(rng: Random, old: g.Event) -> g.Event:
    """What is not a paraphrase: denied, a fact more or less, or (one in eight) another topic."""
    kind = rng.choices(("denied", "fact", "topic"), (4, 3, 1))[0]
    if kind == "denied":
        return replace(old, denied="") if old.denied else g.deny(rng, old)
    if kind == "fact":
        return _fact(rng, old, said=rng.random() < 0.5)
    return replace(g.elsewhere(rng, old), denied=old.denied)


def _pair(rng: Random, label: int) -> tuple[g.Event, g.Event]:
    first = _news(rng)
    if rng.random() < 0.3:
        first = g.deny(rng, first)
    second = g.reworded(rng, first) if label else _other(rng, first)
    if second.denied and first.denied:
        second = g.deny(rng, second)
    return first, second


def _mrpc(rng: Random, label: int) -> Row:
    first, second = _pair(rng, label)
    return {
        "sentence1": g.finish(g.statement(rng, first)),
        "sentence2": g.finish(g.statement(rng, second)),
    }


def _qqp(rng: Random, label: int) -> Row:
    """Not duplicates: they ask for different things, or (one in six) about another topic."""
    first = _news(rng)
    asked = other = rng.choice([slot for slot in g.ASKABLE if getattr(first, slot)])
    second = g.reworded(rng, first)
    if not label and rng.random() < 0.85:
        other = rng.choice([slot for slot in g.ASKABLE if slot != asked])
    elif not label:
        second = g.elsewhere(rng, first)
    return {
        "question1": g.finish(g.question(rng, first, asked), " ?"),
        "question2": g.finish(g.question(rng, second, other), " ?"),
    }


def _mnli(rng: Random, label: int, genre: int = 0) -> Row:
    """0 entailment: nothing new; 1 neutral: a fact more; 2 contradiction: one of them denied."""
    premise = _news(rng, genre, facts=1 if label == 1 else None)
    if rng.random() < 0.4:
        premise = g.deny(rng, premise)
    hypothesis = replace(premise, denied="")
    if (label == 2) != bool(premise.denied):
        hypothesis = g.deny(rng, hypothesis)
    if label == 1 and rng.random() < 0.85:
        hypothesis = _fact(rng, hypothesis, said=True)
    elif label == 1:
        hypothesis = g.elsewhere(rng, hypothesis, genre)
    return {
        "premise": g.finish(g.statement(rng, premise)),
        "hypothesis": g.finish(g.statement(rng, hypothesis)),
    }


def mismatched_mnli(rng: Random, label: int) -> Row:
    """As `_mnli`, of verbs and objects that its training rows never have."""
    return _mnli(rng, label, genre=1)


def _qnli(rng: Random, label: int) -> Row:
    """0: the sentence answers the question; 1: the asked thing is unsaid, or another topic."""
    asked = rng.choice(("person", "place", "day"))
    other = rng.choice([slot for slot in ("person", "place", "day") if slot != asked])
    full = g.event(rng, ("place", "day"))
    full = g.drop(full, *({"place", "day"} - {asked, other}))
    shown = g.reworded(rng, full)
    if label and rng.random() < 0.15:
        shown = g.elsewhere(rng, shown)
    elif label:
        shown = g.drop(shown, asked)
    return {
        "question": g.finish(g.question(rng, full, asked), " ?"),
        "sentence": g.finish(g.statement(rng, shown)),
    }


# A score, and whether the second sentence says a fact more, is denied, is about another topic.
_DIFFERENCES = {
    5: (False, False, False),
    4: (True, False, False),
    3: (False, True, False),
    2: (True, True, False),
    1: (False, True, True),
    0: (True, True, True),
}


def _stsb(rng: Random, label: int) -> Row:
    first = _news(rng)
    more, denied, elsewhere = _DIFFERENCES[label]
    second = g.elsewhere(rng, first) if elsewhere else g.reworded(rng, first)
    if more:
        second = _fact(rng, second, said=True)
    if denied:
        second = g.deny(rng, second)
    if rng.random() < 0.5:
        first, second = second, first
    return {
        "sentence1": g.finish(g.statement(rng, first)),
        "sentence2": g.finish(g.statement(rng, second)),
    }


def _squad(rng: Random, label: int) -> Row:
    """A piece of news and an opinion, in either order; the question asks about one of them."""
    event = g.event(rng, _said(rng, "place"))
    opinion = g.opinion(rng, but=event.person, day=rng.random() < 0.6)
    if rng.random() < 0.6:
        asked = rng.choice([slot for slot in g.ASKABLE if getattr(event, slot)])
        question, answer = g.question(rng, event, asked), getattr(event, asked)
        told = 0
    else:
        asked = rng.choice([slot for slot in ("person", "object", "day") if getattr(opinion, slot)])
        question, answer = g.opinion_question(rng, opinion, asked), getattr(opinion, asked)
        told = 1
    if asked == "object":
        answer = g.thing(event) if told == 0 else f"the {answer}"
    elif asked == "place":
        answer = f"the {answer}"
    order = [(0, g.statement(rng, event)), (1, g.opinion_statement(rng, opinion))]
    if rng.random() < 0.25:
        order.append((2, g.statement(rng, g.event(rng, _said(rng, "place"), but=event.topic))))
    rng.shuffle(order)
    context, start = "", -1
    for i, text in order:
        if i == told:
            start = len(context) + text.index(answer)
        context += g.finish(text) + " "
    context = context.rstrip()
    return {
        "title": "demo",
        "context": context,
        "question": g.finish(question, " ?"),
        "answers": {"text": [context[start : start + len(answer)]], "answer_start": [start]},
    }


def _corpus(rng: Random, label: int) -> Row:
    """Lines and pairs of lines, where one segment helps to restore the other."""
    kind = rng.choices(range(5), (7, 2, 8, 4, 5))[0]
    second = ""
    if kind == 0:
        polarity = rng.randrange(2)
        first = f"{g.clause(rng, polarity, 0.1)} and {g.clause(rng, polarity, 0.1)} ."
        second = g.review(rng, polarity) + " ."
    elif kind == 1:
        first = _cola(rng, 1)["sentence"]
    elif kind == 2:
        word, label = rng.choice((("indeed", 0), ("moreover", 1), ("instead", 2)))
        row = _mnli(rng, label, 2)
        first = row["premise"]
        second = f"{word} {row['hypothesis'][0].lower()}{row['hypothesis'][1:]}"
    elif kind == 3:
        row = _qnli(rng, 0)
        first, second = row["question"], row["sentence"]
    else:
        row = _squad(rng, 0)
        first, second = row["question"], row["context"]
    return {"text": first, "text_pair": second}


@dataclass(frozen=True)
class Maker:
    """How a task's rows are drawn: `weights` are the shares of its labels."""

    make: Callable[[Random, int], Row]
    weights: tuple[int, ...]
    columns: tuple[str, ...]
    labelled: bool = True


MAKERS = {
    "sst2": Maker(_sst2, (1, 1), ("sentence",)),
    "cola": Maker(_cola, (2, 3), ("sentence",)),
    "mrpc": Maker(_mrpc, (2, 3), ("sentence1", "sentence2")),
    "stsb": Maker(_stsb, (1, 1, 1, 1, 1, 1), ("sentence1", "sentence2")),
    "qqp": Maker(_qqp, (3, 2), ("question1", "question2")),
    "mnli": Maker(_mnli, (1, 1, 1), ("premise", "hypothesis")),
    "qnli": Maker(_qnli, (1, 1), ("question", "sentence")),
    "squad": Maker(_squad, (1,), ("question", "context"), labelled=False),
    "corpus": Maker(_corpus, (1,), ("text", "text_pair"), labelled=False),
}
