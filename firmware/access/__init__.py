"""Interface access control: the registry of interfaces, who may come in, and the one dispatcher. docs/access.md."""
