"""The database of models: cards, queries and the generated tables. No torch."""
