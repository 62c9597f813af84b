"""The parts of `analysis/law_benchmark.py`: what is measured, on which frozen splits, by which methods, and how shown.

`tables` reads the public run tables, `tasks` splits them, `methods` and `trees` fit and predict, `measures` compares.
`planted`, `proposals` and `timings` measure what no table can show. Everything becomes cells (`cells`), which `store`
keeps in a CSV file as they come; `report` and `figures` read nothing else.
"""
