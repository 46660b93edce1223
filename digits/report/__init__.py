"""The pages of a run, for a browser and for the dashboard."""
