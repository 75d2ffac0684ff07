"""The commands of `python -m training`, one concept a file.

Torch is imported when a command runs, not for `--help`.
"""
