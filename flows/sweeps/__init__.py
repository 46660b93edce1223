"""What the flow `sweep` is made of: its request, its trainings, where they run, what it prints."""
