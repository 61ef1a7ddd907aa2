"""What `nest ui` and `nest serve` share: listening, guarding, reading, streaming."""
