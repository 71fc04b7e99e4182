"""Loopback providers, faithful to their SDKs' types: what a critic's driver is tested against."""
