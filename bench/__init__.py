"""Side-by-side benchmarks: `python -m bench [ingest|processors|replay|all]`, from the repository root. Not packaged.

Only ratios carry over to another machine, and only between runs that shared its weather: so the subjects of a suite
take turns within one run (A B C A B C …), every round gives one ratio, and the median of those is the result.
"""
