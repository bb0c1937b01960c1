"""The paper's printed tables and claims, and checks of their consistency."""
