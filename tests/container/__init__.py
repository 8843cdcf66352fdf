"""The image and compose.yaml, on a real Docker engine."""
