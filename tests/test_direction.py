"""The words of a target's name say whether higher is better; parts of words do not."""

import pandas as pd
import pytest

from mixscale.direction import higher_is_better
from mixscale.run_table import RunTable


@pytest.mark.parametrize(
    ("says", "names"),
    [
        (True, "arc/acc,none hellaswag/acc_norm valAcc F1 qa/exact_match BLEU rougeL rouge2 chrF++ win_rate ndcg@10"
               " mAP pass@k pass@1 pass_at_10 AUROC recall@5 reward squad/em loss_acc"),
        (False, "acc_loss map/loss word_perplexity bits_per_byte error_rate brier_score loss_score WER eval/RMSE"),
        (None, "mmlu accounting emails space factory acc_stderr lossless"),
    ],
)  # fmt: skip
def test_words_of_names_have_a_direction(says, names):
    assert {name: higher_is_better(name) for name in names.split()} == dict.fromkeys(names.split(), says)


def test_a_table_whose_names_contradict_its_prefixes_has_a_note():
    frame = pd.DataFrame({"run": ["a", "b"], "mix/web": 1.0, "loss/map": [1.0, 2.0]})
    assert not any("better" in note for note in RunTable(frame).notes)
    notes = RunTable(frame.assign(**{"metric/qa_acc": [1.0, 2.0], "score/ppl": [1.0, 2.0]})).notes
    assert any(
        "metric/qa_acc will be minimised" in n and n.endswith("rename the column to score/qa_acc") for n in notes
    )
    assert any("score/ppl will be maximised" in n and n.endswith("rename the column to metric/ppl") for n in notes)
