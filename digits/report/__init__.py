"""HTML reports of runs, and their pages in the dashboard."""
