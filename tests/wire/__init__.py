"""What callbacks send and what they believe of the answers, against real sockets on loopback."""
