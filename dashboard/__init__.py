"""Pages over the store: jobs, Pareto fronts, candidates, curves, predictor quality."""
