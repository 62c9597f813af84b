"""A ladder over N and D for the joint laws: four sizes, each measured at four token counts, on two dozen mixtures.

Each run gives four honest points in D: its stable phase is trained once, and a branch decays from it for every count
(Hu et al., arXiv 2404.06395). The largest size is left out to judge laws by, with `fit --holdout larger-n`:

    mixscale sweep configs/ladder.py
    mixscale fit runs/ladder --holdout larger-n --out runs/ladder/fit
"""

from mixscale.config import Corpus, Design, Embedded, Experiment, Model, Optimizer, Tokenizer, Train, Verify

experiment = Experiment(
    name="ladder",
    corpus=Corpus(
        domains={name: Embedded(name) for name in ("abstracts", "code", "docs", "fiction", "romance", "wiki")},
        tokenizer=Tokenizer(kind="bpe", vocab_size=1024),
        context=128,
    ),
    models={
        "0.02M": Model(d_model=32, layers=2, heads=2, kv_heads=1),
        "0.1M": Model(d_model=64, layers=2, heads=4, kv_heads=2),
        "0.3M": Model(d_model=96, layers=3, heads=6, kv_heads=3),
        "0.9M": Model(d_model=160, layers=3, heads=10, kv_heads=5),
    },
    optimizer=Optimizer(learning_rate=0.01, decay=0.3),
    train=Train(tokens=1_600_000, batch=8, measure_at=(200_000, 400_000, 800_000)),
    design=Design(dirichlet=16, vertices=False, held_out=6, replicates=3, seed=7),
    verify=Verify(seeds=(11, 12, 13)),
)
