"""Files: atomic writes, verified downloads, the content-addressed cache."""
