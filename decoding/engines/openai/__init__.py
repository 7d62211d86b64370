"""Any OpenAI-compatible server, or a fleet of them."""
