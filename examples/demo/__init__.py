"""The demo: Label Studio, backend and trainer started together on one machine."""
