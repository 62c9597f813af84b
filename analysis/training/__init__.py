"""Parts of analysis/train_benchmark.py: the twin in plain PyTorch, what is timed, and the tables."""
