"""Callbacks: from an event's delivery row to a signed request at its endpoint."""
