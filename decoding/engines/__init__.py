"""Engines. Each module imports its library; `open_engine` imports the module."""
