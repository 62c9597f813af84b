"""The exceptions that are a sentence for a person.

The command line prints their message and exits with status 2 (input to mend) or 1 (work to start again); any other
exception is a defect and keeps its stack trace. A message names the thing that is wrong, the value it had, and what
would be right.
"""


class InputError(ValueError):
    """Input (config, table, mixture, file) that cannot be used as it stands."""


class Unfinished(RuntimeError):
    """Work that stopped through no fault of its input; what was done is kept, and starting again goes on."""
