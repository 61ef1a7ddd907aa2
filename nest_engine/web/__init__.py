"""What the page of `nest ui` and the API of `nest serve` share: listening, keeping others out, reading, streaming."""
