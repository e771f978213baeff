"""Placeholder until the package is built."""
