"""Messages without credentials."""

import os
import re

# Names of environment variables whose values no message may contain.
_SECRET = re.compile(r"KEY|TOKEN|PASSWORD|SECRET|CREDENTIAL", re.IGNORECASE)
_LOGIN = re.compile(r"://[^/@\s]*@")  # http://user:password@host


def without_secrets(text: str) -> str:
    """`text` without logins in addresses and values of secret environment variables."""
    text = _LOGIN.sub("://", text)
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET.search(name):
            text = text.replace(value, "***")
    return text


def first_line(error: Exception) -> str:
    """'TypeError: text' of an exception of a library: its first line, without secrets."""
    text = str(error).strip().splitlines() or [""]
    return without_secrets(f"{type(error).__name__}: {text[0]}")[:300]
