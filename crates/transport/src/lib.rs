//! How bytes move: QUIC between agents, Unix sockets within a host, memory for tests.
