"""Targets: modules built from cards, and the access-limited door through which attacks see them."""
