"""Figures that were known before this benchmark: first measurements on the same tables, of naive fits."""

REGMIX = {
    # method: (rho 1M, rho 60M, rho 1B, MAE 1M, R2 1M)
    "linear": (0.831, 0.829, 0.712, 0.386, 0.619),
    "exponential": (0.973, 0.968, 0.938, 0.150, 0.916),
    "effective": (0.982, 0.976, 0.947, 0.082, 0.967),
    "lightgbm": (0.9897, 0.9841, 0.9487, 0.061, 0.981),
    "additive": (0.9918, 0.9885, 0.9558, 0.061, 0.983),
    "gp": (0.9933, 0.9886, 0.9553, 0.0415, None),
    "auto": (0.9939, 0.9896, 0.9559, 0.043, None),
}
"""LightGBM's may have stopped on the test set. That of auto is the mean of the additive law and two processes."""
REGMIX_COLUMNS = ("rho 1M", "rho 60M", "rho 1B", "MAE 1M", "R2 1M")
CURVES = {
    "additive": {40: 0.964, 80: 0.986, 160: 0.990},
    "lightgbm": {40: 0.916, 80: 0.966, 160: 0.983},
    "exponential": {40: 0.77, 80: 0.85, 160: 0.86},
}
"""rho at 1M for so many runs."""
THREE_MIX = {"autoscale": 0.023, "additive": 0.025, "m1": 0.031, "exponential": 0.050, "linear": 0.130}
"""MAE at 410M."""
OLMIX = {"lightgbm": 0.933, "additive": 0.928, "effective": 0.920, "gp": 0.905, "log-linear": 0.872}
"""R2 of the mean of 110 metrics."""
