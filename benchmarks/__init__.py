"""What the service costs, measured beside the barest server on the same stack, in the same run."""
