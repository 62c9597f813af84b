"""Whether a target is better when higher, by the words of its name."""

from __future__ import annotations

import re

HIGHER = (
    "acc|accs|accuracy|accuracies|f1|exact match|bleu|sacrebleu|spbleu|rouge|rougel|rougelsum|chrf|chr f|meteor|"
    "bertscore|comet|(?:win|success|solve|pass|hit) rate|winrate|n?dcg|mrr|auc|auroc|auprc|pass (?:at )?(?:\\d+|k)|"
    "mcc|pearson|spearman|kendall|kappa|r2|m?iou|dice|elo"
)
LOWER = (
    "loss|losses|ppl|perplexity|bpb|bpc|bits per \\w+|error|errors|err|wer|cer|ter|mse|rmse|mae|mape|nll|ce|xent|"
    "cross entropy|entropy|kl|kld|divergence|brier|ece|regret|distance"
)
HIGHER_ALONE = "score|scores|reward|rewards|em|map|m ap|recall|precision|hits|match|correct|correlation"
"""Words that say so only where no other word speaks: a `loss_score` is better when lower."""
SPREAD = "stderr|std ?err|std|stddev|variance|var"  # a number about a metric, which is better neither way
STRONG = re.compile(rf"\b(?:(?P<higher>{HIGHER})|{LOWER})\d*\b")
WEAK, NEITHER = re.compile(rf"\b(?:{HIGHER_ALONE})\d*\b"), re.compile(rf"\b(?:{SPREAD})\b")


def higher_is_better(name: str) -> bool | None:
    """True for `arc/acc_norm`, False for `acc_loss` (the last word decides), None for a name that does not say."""
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    words = " ".join(re.findall(r"[a-z0-9]+", split))
    if NEITHER.search(words):
        return None
    if found := list(STRONG.finditer(words)):
        return found[-1]["higher"] is not None
    return True if WEAK.search(words) else None
