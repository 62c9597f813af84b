"""Which mixtures to train: baselines, designs before there is a table, and the runs that a fit recommends next."""
