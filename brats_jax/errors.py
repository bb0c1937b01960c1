"""The one exception a user is meant to read."""


class BratsError(Exception):
    """Bad input or surroundings: one line with what is wrong, where, and what to do.

    Commands print it as `error: ...` and exit with status 1; a traceback would
    only hide the line.
    """


# The exit status that says so (EX_TEMPFAIL of sysexits.h).
BUSY_STATUS = 75


class Busy(BratsError):
    """Another process is at it: nothing is wrong, and it may be tried again later."""
