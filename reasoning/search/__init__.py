"""What searches by steps have in common: the tree that they grow, and what is decided on it, as pure functions."""
