"""The HTTP API: a module a resource, and what they share: auth, errors, inputs, pages, server."""
