"""Tests of the HTTP API over real HTTP and a real PostgreSQL."""
