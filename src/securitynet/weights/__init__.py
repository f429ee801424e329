"""The one room where foreign checkpoints are opened: inspect, convert, load strictly."""
