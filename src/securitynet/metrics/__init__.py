"""Pure numpy figures: ROC, intervals, agreement."""
