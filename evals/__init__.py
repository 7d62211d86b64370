"""Tasks, runs over them, and figures with intervals."""
