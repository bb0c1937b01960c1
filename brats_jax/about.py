"""Version of the package, and the notice that everything it writes carries."""

__version__ = "0.1.0"

RESEARCH_USE_ONLY = (
    "For research use only. Not a medical device: not for diagnosis, treatment or any other "
    "clinical decision."
)
