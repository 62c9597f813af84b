"""Six domains of embedded text, small models, two CPU cores, a quarter of an hour.

    mixscale run configs/quickstart.py
"""

from mixscale.experiment import Corpus, Design, Embedded, Experiment, Model, Optimiser, Tokenizer, Train, Verify

experiment = Experiment(
    name="quickstart",
    corpus=Corpus(
        domains={name: Embedded(name) for name in ("abstracts", "code", "docs", "fiction", "romance", "wiki")},
        tokenizer=Tokenizer(kind="bpe", vocab_size=1024),
        context=128,
    ),
    models={"0.1M": Model(d_model=64, layers=3, heads=4, kv_heads=2)},
    optimiser=Optimiser(learning_rate=0.01),
    train=Train(tokens=500_000, batch=8),
    design=Design(dirichlet=20, held_out=8, replicates=4),
    verify=Verify(seeds=(11, 12, 13)),
)
