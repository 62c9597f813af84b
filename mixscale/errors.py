"""The one exception for input that a person can mend.

The command line prints its message as a sentence and exits with status 2; any other exception is a defect and
keeps its stack trace. A message names the thing that is wrong, the value it had, and what would be right.
"""


class InputError(ValueError):
    """Input (config, table, mixture, file) that cannot be used as it stands."""
