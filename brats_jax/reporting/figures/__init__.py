"""Figures of the report, a module for each kind."""
