"""One way to show results: tables, plots, html."""
