"""The exception whose message is for users."""


class BratsError(Exception):
    """Bad input or environment: one line with what is wrong, in which file, and what to do.

    Commands print it as `error: ...`, without a traceback, and exit with status 1.
    """

    def __str__(self) -> str:
        """The line. Names of files and cases may hold line ends, which are escaped."""
        return super().__str__().replace("\r", "\\r").replace("\n", "\\n")


# Exit status of a command that met Busy (EX_TEMPFAIL of sysexits.h).
BUSY_STATUS = 75


class Busy(BratsError):
    """Another process works on the same folder; the command may be repeated later."""
