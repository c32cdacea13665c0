# The hardened image and a machine to try it in. Keys are made at the first build and kept under build/image-keys (IMAGE_KEYS).
.PHONY: image image-lock image-boot test-image
IMAGE_KEYS ?= build/image-keys
PROFILE ?= release
BUILD_IMAGE = $(BIN)/python -m image --keys $(IMAGE_KEYS)

image: ## build the hardened image into build/image/ (PROFILE=developer: with a shell on the serial console)
	@PYTHON=$(PYTHON) provisioning/setup.sh image
	@$(BUILD_IMAGE) build --profile $(PROFILE)

image-lock: # renew image/definition/packages.lock from the machine's Debian mirror
	@PYTHON=$(PYTHON) provisioning/setup.sh image
	@$(BUILD_IMAGE) lock

image-boot: ## start the developer image in QEMU, sell once, then hand you its console
	@PYTHON=$(PYTHON) provisioning/setup.sh machine
	@$(BUILD_IMAGE) build --profile developer
	@$(BUILD_IMAGE) boot

test-image: ## build the release image twice and compare; needs ten minutes
	@PYTHON=$(PYTHON) provisioning/setup.sh image
	@$(BUILD_IMAGE) build
	@$(BUILD_IMAGE) again
