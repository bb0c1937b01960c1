"""The tables and claims that the paper prints, and the contradictions between them."""
