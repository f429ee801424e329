"""Plan, worker, grading, store and the local pool."""
