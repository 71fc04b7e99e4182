"""Experience: the probability that a call was a bad one, from its parts; kept up to date; fitted to thumbs.

Imported by the rest of outliers and above. Data comes from calls, scores, signals and readings.
"""
