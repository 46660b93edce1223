"""The store that machines share, behind one address: objects, created if absent."""
