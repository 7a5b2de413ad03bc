"""What people say of answers: how well a judge agrees with them, and blind sheets for them to fill in."""
