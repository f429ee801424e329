"""Model stealing, one method a file."""
