"""Judges that write before they judge, and the policy asked about its own work. All run over an engine."""
