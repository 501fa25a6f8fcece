"""The commands, a module each: `add` says how one is called, and what it does stands below."""
