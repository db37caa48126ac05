"""Grading of a user's own answers, by the very code that annotates responses in a run."""
