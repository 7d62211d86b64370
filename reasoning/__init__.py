"""How compute is spent on one problem: strategies, and the one handle that they touch."""
