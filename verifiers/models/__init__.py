"""Models that judge or place texts; what they need is imported when they are used."""
