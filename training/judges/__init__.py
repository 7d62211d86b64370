"""Training of judges on a policy's own solutions: rollouts, labels, models, a report; one seed makes all of it."""
