"""Serves champions over HTTP."""
