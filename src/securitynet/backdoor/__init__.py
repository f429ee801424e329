"""Backdoor detection, one method a file."""
