"""The mixture of the text that is most similar to a target's, by importance resampling as in DSIR."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mixscale.errors import InputError, listed
from mixscale.mixture import Mixture

BUCKETS = 10_000  # into which n-grams are hashed, as many as in DSIR
SMOOTHING = 0.1  # count added to every bucket, so that an unseen n-gram does not decide alone
SHRINKAGE = 0.1  # share of a sphere in the covariance of embeddings, which has too few samples
WORD = re.compile(r"\w+|[^\w\s]")

Embedding = Callable[[Sequence[str]], np.ndarray]  # from M texts to their vectors, shape (M, F)


def relevance(
    tokens: Mapping[str, float],
    samples: Mapping[str, Sequence[str]],
    target: Sequence[str],
    share: float = 0.1,
    seed: int = 0,
    embedding: Embedding | None = None,
) -> Mixture:
    """The mixture of domains of the `share` of all text that is most similar to the target's.

    Texts are drawn without replacement in proportion to `p(x) / q(x)`, how much likelier their words are in the target
    than in all domains together: with bags of hashed words and pairs of words or, with an embedding, Gaussians of one
    covariance. Source: DSIR, Xie et al., arXiv 2302.03169, with samples in place of the whole corpus.

    Args:
        tokens: size of each domain. samples: texts of each domain, of similar length (the weights of longer texts are
            more extreme). target: texts like those the model is for.
        share: of all tokens, above 0 and at most 1 (which gives the natural mixture). seed: of the draw.
        embedding: vectors of texts, in place of words.

    Raises:
        InputError: a domain has no samples, the target has no text, or the share is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise InputError(f"share is {share:g}; it must be above 0 and at most 1")
    if missing := [d for d in tokens if not samples.get(d)]:
        raise InputError(f"there is no sample of {listed(missing)}; relevance needs text of every domain")
    if not any(text.strip() for text in target):
        raise InputError("the target has no text; give at least one document like those of the model's application")
    texts = [text for d in tokens for text in samples[d]]
    domain_M = np.repeat(np.arange(len(tokens)), [len(samples[d]) for d in tokens])
    mass_M = np.repeat([n / len(samples[d]) for d, n in tokens.items()], [len(samples[d]) for d in tokens])
    by_words = embedding is None
    log_weight_M = _by_words(texts, target, mass_M) if by_words else _by_vectors(embedding, texts, target, mass_M)
    # The order of log w + log mass + Gumbel noise is that of draws without replacement in proportion to w · mass.
    noisy_M = log_weight_M + np.log(mass_M) + np.random.default_rng(seed).gumbel(size=len(texts))
    order_M = np.argsort(-noisy_M, kind="stable")
    before_M = np.cumsum(mass_M[order_M]) - mass_M[order_M]
    # The last text counts by the part that is within the share.
    taken_M = np.clip(share * mass_M.sum() - before_M, 0.0, mass_M[order_M])
    taken_K = np.bincount(domain_M[order_M], taken_M, len(tokens))
    return Mixture.normalized(dict(zip(tokens, taken_K.tolist(), strict=True)))


def _by_words(texts: Sequence[str], target: Sequence[str], mass_M: np.ndarray) -> np.ndarray:
    """Log of p/q of each text as a bag of hashed words and pairs of words, shape (M,)."""
    wanted_B, bags = np.full(BUCKETS, SMOOTHING), [_hashed(text) for text in texts]
    for text in target:
        np.add.at(wanted_B, _hashed(text), 1.0)
    found_B = np.full(BUCKETS, SMOOTHING)
    for bag, mass in zip(bags, mass_M / mass_M.mean(), strict=True):
        np.add.at(found_B, bag, mass)
    ratio_B = np.log(wanted_B / wanted_B.sum()) - np.log(found_B / found_B.sum())
    return np.array([ratio_B[bag].sum() for bag in bags])


def _hashed(text: str) -> np.ndarray:
    """Buckets of a text's words and pairs of adjacent words; the same on every machine."""
    words = WORD.findall(text.lower())
    pairs = (f"{one} {other}" for one, other in zip(words, words[1:], strict=False))
    return np.array([zlib.crc32(gram.encode("utf-8", "replace")) % BUCKETS for gram in (*words, *pairs)], dtype=int)


def _by_vectors(embedding: Embedding, texts: Sequence[str], target: Sequence[str], mass_M: np.ndarray) -> np.ndarray:
    """Log of p/q of each text if target and domains are Gaussians of one covariance, shape (M,)."""
    all_MxF, wanted_NxF = np.asarray(embedding(texts), float), np.asarray(embedding(target), float)
    for vectors, count in ((all_MxF, len(texts)), (wanted_NxF, len(target))):
        if vectors.ndim != 2 or len(vectors) != count or not np.isfinite(vectors).all():
            raise InputError(
                f"the embedding has shape {vectors.shape} for {count} texts; give a finite vector for each"
            )
    mean_F = np.average(all_MxF, axis=0, weights=mass_M)
    covariance_FxF = np.cov(all_MxF.T, aweights=mass_M, bias=True).reshape(all_MxF.shape[1], -1)
    sphere_FxF = np.eye(len(mean_F)) * (np.trace(covariance_FxF) / len(mean_F) or 1.0)
    shift_F = wanted_NxF.mean(axis=0) - mean_F
    direction_F = np.linalg.solve((1 - SHRINKAGE) * covariance_FxF + SHRINKAGE * sphere_FxF, shift_F)
    return (all_MxF - mean_F - shift_F / 2) @ direction_F
