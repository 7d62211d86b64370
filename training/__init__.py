"""Training of policies for the reference world: one seeded command each."""
