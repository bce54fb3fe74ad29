"""A word-level tokenizer for encoders that are pretrained from nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from transformers import BertTokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORD = re.compile(r"\w+|[^\w\s]")


def words_of(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def word_tokenizer(texts: Iterable[str], vocab_size: int | None = None) -> BertTokenizer:
    """BERT's lower-casing tokenizer over whole words: the special tokens, then words in order.

    With `vocab_size`, the most frequent words only; other words are [UNK]. The same texts, in any
    order, give the same ids. It has offsets and segment ids, and is saved as any tokenizer is.
    """
    counts = Counter(word for text in texts for word in words_of(text))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    kept = ranked if vocab_size is None else ranked[: max(0, vocab_size - len(SPECIAL))]
    vocabulary = {word: place for place, word in enumerate([*SPECIAL, *sorted(kept)])}
    return BertTokenizer(vocab=vocabulary, do_lower_case=True)
