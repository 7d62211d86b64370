"""Running strangers' programs: what holds them, and judging them by the values that they return."""
