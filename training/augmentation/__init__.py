"""Random changes of crops: settings (`config`) and what makes them (`augmenter`)."""
