"""What the server takes, so that nothing is sent that it would refuse; a test holds them against its own."""

NAME_CHARS_MAX = 256
ID_CHARS_MAX = 128
TAGS_MAX = 64
TOOLS_MAX = 128
CONTEXT_MAX = 1_000
#: Lists and objects within one another; the server takes 250.
NESTED_MAX = 200
LATENCY_MS_MAX = 7 * 86_400_000.0
COUNT_MAX = 2**31 - 1
COST_USD_MAX = 1e6
#: One call stands for a million at most.
SAMPLE_RATE_MIN = 1e-6
RATING_MIN, RATING_MAX = 1.0, 5.0
EARLIEST_YEAR = 2000
