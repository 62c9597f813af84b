"""Texts that a trained model writes after prompts: opens the model, and turns text into tokens and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mixscale.errors import InputError
from mixscale.models.generation import generate
from mixscale.training.hugging_face import open_run
from mixscale.training.pretrained import is_hugging_face, load


class Continuation(NamedTuple):
    prompt: str
    text: str  # after the prompt
    tokens: int  # of the text, without the end token
    limit: str  # why it ended


def continue_texts(
    folder: Path,
    prompts: Sequence[str],
    tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    stop: bool,
    store: Path | None = None,
) -> list[Continuation]:
    """Continues each prompt by at most `tokens` tokens; see `mixscale.models.generation.generate`.

    Args:
        folder: of a run, DIR/runs/ID, or of a Hugging Face model.
        stop: end a text at the end-of-document token.
        store: folder of the run's token store, if it is not in the cache that the run names.
    """
    if not prompts or "" in prompts:
        raise InputError("a prompt is empty; give the beginning of a text with --prompt")
    if tokens < 1:
        raise InputError(f"--tokens is {tokens}; give at least 1")
    if not 0 <= temperature < float("inf"):
        raise InputError(f"--temperature is {temperature:g}; give 0 for the most probable token, or more")
    if not 0 < top_p <= 1:
        raise InputError(f"--top-p is {top_p:g}; give a probability above 0 and at most 1")
    found = load(folder) if is_hugging_face(folder) else open_run(folder, None, store)[0]
    begin = [] if found.begin is None else [found.begin]
    ids = [[*begin, *map(int, ids_T)] for ids_T in found.tokenizer.encode_batch(prompts)]
    for number, prompt in enumerate(ids, 1):
        if len(prompt) > found.context:
            raise InputError(
                f"prompt {number} has {len(prompt)} tokens, and the context of the model is {found.context}; "
                "give a shorter prompt"
            )
    longest = max(map(len, ids))
    # The last token is not an input.
    room = min(tokens, found.context + 1 - longest)
    padding = [longest - len(prompt) for prompt in ids]
    end = found.tokenizer.eod if stop else -1
    ids_BxP = np.array([[0] * n + prompt for n, prompt in zip(padding, ids, strict=True)], np.int32)
    ids_BxN = generate(found.model, found.params, ids_BxP, np.array(padding), room, temperature, top_p, end, seed)
    results = []
    for prompt, before, after_N in zip(prompts, ids, np.asarray(ids_BxN).tolist(), strict=True):
        n = after_N.index(end) if end in after_N else room
        limit = "end of the document" if n < room else "" if room == tokens else f"context of {found.context} is full"
        # Decoded with the prompt, because a decoder may drop a space at the start of a text.
        whole, start = (found.tokenizer.decode(part) for part in (before + after_N[:n], before))
        results.append(Continuation(prompt, whole[len(start) :], n, limit))
    return results
