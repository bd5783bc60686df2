"""What is refused and yet kept, within its bounds."""
