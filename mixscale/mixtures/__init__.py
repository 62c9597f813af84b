"""Which mixtures to train: baselines, designs before there is a table, and the runs that a fit asks for next.

`baselines`, `designs` and `schedule` know no laws; `acquisition` reads fits. Import from these modules.
"""
