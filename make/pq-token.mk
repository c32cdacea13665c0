# A token with post-quantum keys: opencryptoki in a root of its own, made once and kept under build/.
PQ_TOKEN_ROOT ?= build/pq-token/root

test-pq-token: setup ## the signer's contract on a token with ML-DSA-87 (opencryptoki; needs root)
	tests/tools/pq_token.sh $(PQ_TOKEN_ROOT) $(BIN)/python -m pytest -m pq_token -p no:cacheprovider -q tests/contract/test_signer.py
