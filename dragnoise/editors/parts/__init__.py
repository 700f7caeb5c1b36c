"""Parts that editors are made of: variables, supervision, the schedule at one timestep, the optimiser, attention."""
