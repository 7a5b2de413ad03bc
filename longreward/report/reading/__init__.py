"""What a report reads: run directories and scored files, their answers, the figures of all answers in one table."""
