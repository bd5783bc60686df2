"""Numbered SQL, forward only; a released file never changes."""
