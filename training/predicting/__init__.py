"""A model put to work on folders: masks, and a file that other programs can use."""
