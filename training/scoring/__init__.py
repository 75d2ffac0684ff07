"""How good answers are: counts, scores with intervals, evaluations."""
