# Seeded worlds: make world SEEDS=2000; make world SEED=7 tells the whole history of one. The last line counts.
.PHONY: world
world: setup ## live through simulated worlds (SEEDS=n, SEED=s): terminals, box, provider, crashes; nothing may be lost
	@$(BIN)/python -m tests.world $(if $(SEEDS),--seeds $(SEEDS)) $(if $(SEED),--seed $(SEED)) $(if $(BUG),--bug $(BUG))
