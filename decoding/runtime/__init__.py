"""Torch: language models over caches that they do not own. Imported only by engines, when one is opened."""
