"""The SDK as an application meets it: real HTTP, real provider packages, real processes."""
