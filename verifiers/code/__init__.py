"""Programs as answers: found in texts, judged by tests in the sandbox, tried on the examples that a problem shows."""
