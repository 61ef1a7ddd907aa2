#!/bin/sh
# What to ask a machine with a GPU once: does it give the same answers, and how long do forwards take there?
#
#     sh benchmarks/gpu_check.sh [FOLDER]     # writes its figures to FOLDER, gpu_check by default
#
# Under 8 minutes in all on one GPU with 20 GB free. PYTHON names another interpreter.
set -u
cd "$(dirname "$0")/.."
out=${1:-gpu_check}
python=${PYTHON:-python3}
mkdir -p "$out"
failed=0

run() { # NAME LIMIT COMMAND...: its output to FOLDER/NAME.txt, its end to the terminal
    name=$1 limit=$2
    shift 2
    echo "== $name: $*"
    timeout "$limit" "$@" >"$out/$name.txt" 2>&1
    status=$?
    tail -n 12 "$out/$name.txt"
    echo "== $name: exit $status"
    [ "$status" -eq 0 ] || failed=1
}

run versions 60 "$python" -c "
import torch, transformers
print('torch', torch.__version__, 'transformers', transformers.__version__)
print(torch.cuda.get_device_name(), round(torch.cuda.mem_get_info()[1] / 2**30), 'GiB')"
NEST_TEST_DEVICE=cuda
export NEST_TEST_DEVICE
run equivalence 200 "$python" -m pytest -W default -p no:cacheprovider tests/equivalence
run static_cache 120 "$python" -m pytest -W default -p no:cacheprovider tests/unit/models/test_static_cache.py
run ask 60 "$python" -c "from nest_engine.cli import main; main()" ask "How far is Neptune from the Sun?" \
    --docs nest_demo/corpus.jsonl --model nest_demo/model --load device=cuda --load dtype=float32
run forward_time 200 "$python" -m benchmarks.forward_time --repeats 10 --out "$out"
exit $failed
