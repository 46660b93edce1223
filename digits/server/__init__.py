"""The model server: answers over HTTP with the champion, and follows promotions and rollbacks."""
