"""OpenTelemetry intake: spans and log records of LLM instrumentations become calls of ours, each once.

May be imported by `api`; imports `ingest` only. Flow: body -> `reading` -> `dialects` (one normaliser each)
-> `intake` commits fragments -> `closing` joins and assembles them when they are quiet ->
`ingest.call_writes`.
"""
