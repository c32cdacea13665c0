# The screening model: trained off the box, with packages that no box and no other target needs.
.PHONY: train-screen lock-train
TRAIN := build/train
SEED ?= 1

train-screen: setup ## train the screening model on simulated sales (SEED=n); writes build/screen-model.json and build/screen-report.md
	@cmp -s requirements/train.txt $(TRAIN)/installed.txt || { $(PYTHON) -m venv $(TRAIN) && \
	  $(TRAIN)/bin/pip install --quiet --require-hashes -r requirements/train.txt && cp requirements/train.txt $(TRAIN)/installed.txt; }
	@# One thread: sums in another order are other sums.
	@OMP_NUM_THREADS=1 $(TRAIN)/bin/python -m provisioning.screening.train --seed $(SEED) \
	  --model build/screen-model.json --report build/screen-report.md --vectors build/screen-vectors.json
	@cat build/screen-report.md

lock-train: # renew requirements/train.txt (needs uv)
	$(LOCK) --group train -c requirements/run.txt -o requirements/train.txt
