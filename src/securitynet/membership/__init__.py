"""Membership inference, one method a file."""
