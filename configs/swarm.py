"""512 small runs over the Pile's domains: a swarm of the size of RegMix's (arXiv 2407.01492), in one program.

Each has one million parameters beside its embeddings and trains on a billion tokens. On an accelerator eight are
trained at a time, which make a step of a million tokens; several devices take eight each, and an engine of a cluster
(docs/launchers.md) spreads them over machines:

    mixscale sweep configs/swarm.py

Put the Pile's files, or your own with a field that names the domain, where `PILE` says.
"""

from mixscale.config import (
    Corpus,
    Design,
    Experiment,
    Jsonl,
    Machine,
    Mesh,
    Model,
    Optimizer,
    Tokenizer,
    Train,
    Verify,
    by_field,
)

PILE = "data/pile/*.jsonl.zst"
DOMAINS = {
    "arxiv": "ArXiv", "freelaw": "FreeLaw", "nih": "NIH ExPorter", "pubmed_central": "PubMed Central",
    "wikipedia": "Wikipedia (en)", "dm_mathematics": "DM Mathematics", "github": "Github",
    "philpapers": "PhilPapers", "stackexchange": "StackExchange", "enron": "Enron Emails",
    "gutenberg": "Gutenberg (PG-19)", "pile_cc": "Pile-CC", "ubuntu_irc": "Ubuntu IRC",
    "europarl": "EuroParl", "hackernews": "HackerNews", "pubmed_abstracts": "PubMed Abstracts",
    "uspto": "USPTO Backgrounds",
}  # fmt: skip

experiment = Experiment(
    name="swarm",
    corpus=Corpus(
        domains=by_field(Jsonl(PILE), "meta.pile_set_name", DOMAINS),
        tokenizer=Tokenizer(kind="bpe", vocab_size=16_384),
        context=1024,
        validation_share=0.01,
    ),
    models={"1M": Model(d_model=128, layers=5, heads=4, kv_heads=4)},
    optimizer=Optimizer(learning_rate=0.01),
    train=Train(tokens=1_000_000_000, batch=128, validation_rows=64, dtype="bfloat16"),
    design=Design(dirichlet=512, vertices=False, centre=False, natural=False, held_out=64, replicates=8, seed=0),
    verify=Verify(seeds=(11, 12, 13, 14, 15)),
    # Several devices share the runs, not the sequences of one run.
    machine=Machine(mesh=Mesh(run=-1, data=1), checkpoint_steps=500),
)
