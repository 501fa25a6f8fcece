"""What the outside tests stand on: real and lying nodes, receivers, the engine as users run it."""
