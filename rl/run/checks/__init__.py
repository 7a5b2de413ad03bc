"""What can be found out about a run before it is started: each module looks at one thing and returns findings."""
