"""What a run would take: measured on a pilot, extrapolated, and limited."""
