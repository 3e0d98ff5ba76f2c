"""How fast things are, against others. Each module is a script: python benchmarks/metrics.py"""
