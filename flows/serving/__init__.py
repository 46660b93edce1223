"""What listens on this machine: sockets, who may connect to them, and what is answered."""
