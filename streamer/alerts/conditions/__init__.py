"""Conditions of rules: CEL over one segment, checked with names and kinds before it runs."""
