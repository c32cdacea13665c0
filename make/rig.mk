# The image on trial: a box in QEMU on a LAN of its own (tests/rig/README.md). Leaves build/rig/report.md and report.json.
.PHONY: rig rig-full
RIG = $(BIN)/python -m tests.rig --keys $(IMAGE_KEYS) $(if $(CUTS),--cuts $(CUTS)) $(if $(SEED),--seed $(SEED)) $(if $(KEEP),--keep)

rig: ## boot the developer image in QEMU, pair two tills, sell, cut its power (CUTS=n, SEED=s; KEEP=1: then its console)
	@PYTHON=$(PYTHON) provisioning/setup.sh rig
	@$(BUILD_IMAGE) build --profile developer
	@$(RIG) short

rig-full: ## the same with 500 power cuts (CUTS=n), then tamper with root, kernel and TPM, and provision a release image
	@PYTHON=$(PYTHON) provisioning/setup.sh rig
	@$(BUILD_IMAGE) build --profile developer
	@$(BUILD_IMAGE) build
	@$(RIG) full
