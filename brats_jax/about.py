"""The version, and the notice that every output of the program contains."""

__version__ = "0.2.0"

RESEARCH_USE_ONLY = (
    "For research use only. Not a medical device: not for diagnosis, treatment or any other "
    "clinical decision."
)
