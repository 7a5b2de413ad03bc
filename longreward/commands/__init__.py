"""What the commands of `longreward` do: score, estimate; what they read, count and show."""
