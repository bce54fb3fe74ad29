"""BERT's masking: which tokens are to be predicted, and what stands in their place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..schema import StageError

IGNORED = -100  # the label of a token that is not to be predicted


@dataclass(frozen=True)
class Vocabulary:
    """What masking knows of a tokenizer. Special tokens are neither predicted nor put in."""

    size: int
    mask: int
    special: Tensor  # ids, int64
    words: Tensor  # the other ids

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
        if tokenizer.mask_token_id is None:
            raise StageError(
                "this tokenizer has no mask token, so masked-language modelling cannot be done. "
                "Choose a BERT checkpoint: model.path=DIR"
            )
        special = torch.tensor(sorted(set(tokenizer.all_special_ids)))
        ids = torch.arange(len(tokenizer))
        return cls(len(ids), tokenizer.mask_token_id, special, ids[~torch.isin(ids, special)])


def mask_tokens(
    input_ids: Tensor, probability: float, vocabulary: Vocabulary, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Input and labels, both (B, L) int64. Of the tokens picked 80 % become [MASK], 10 % a random
    word, 10 % stay (Devlin et al. 2019, section 3.1); labels elsewhere are -100.

    Each token that is not special is picked with `probability`; of a row where chance picks none,
    one is.
    """
    free = ~torch.isin(input_ids, vocabulary.special)
    draw = torch.rand(input_ids.shape, generator=generator)
    draw = torch.where(free, draw, torch.full_like(draw, 2.0))
    picked = (draw < probability) | (draw == draw.amin(-1, keepdim=True))
    picked &= free
    kind = torch.rand(input_ids.shape, generator=generator)
    places = torch.randint(len(vocabulary.words), input_ids.shape, generator=generator)
    random_words = vocabulary.words[places]
    masked = torch.where(picked & (kind < 0.8), vocabulary.mask, input_ids)
    masked = torch.where(picked & (kind >= 0.9), random_words, masked)
    return masked, torch.where(picked, input_ids, IGNORED)
