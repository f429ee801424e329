"""Defences: response channels between a model and whoever asks it."""
