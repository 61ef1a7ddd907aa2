"""Adapters: they translate between the engine and a framework, and import only their own."""
