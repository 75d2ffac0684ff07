"""From folders to a model with one command."""
