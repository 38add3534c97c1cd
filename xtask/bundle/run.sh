#!/usr/bin/env bash
# Measures and trains on a host with an NVIDIA GPU, its driver, and a PyTorch 2.11 for CUDA 13, without Rust and
# without a network. docs/gpu.md says what comes back and how to read it.
#
#   ./run.sh first --out <folder>     all that a first quarter of an hour on a GPU should bring, in nine minutes
#   ./run.sh second --out <folder>    what remains: training goes on, racecheck, full sweeps, all benches
#   ./run.sh <step>... --out <folder> steps one by one, in the order given
#   ./run.sh train <plan> --out <folder>   a campaign (see plans/)
#   ./run.sh data <part>...           takes parts of CIFAR-10 that were copied here one at a time
#
#   --budget <seconds>   the time for all steps together (first: 540, second: 270, steps: 3600)
#   --rehearse           tiny sizes, on the processor: a stand-in for CUDA, and a software Vulkan
#
# <folder> gets results.tgz and page.md, renewed after every step, and checkpoints.tgz. A step that fails or that
# outlasts its limit ends itself alone. The steps:
#
#   card          the GPU, the driver, the libraries
#   smoke         LeNet-300-100 at batch 1, libtorch and ours
#   conformance   every kernel compared with plain loops, a process for each group of tests
#   memcheck      the smallest test of each operation under compute-sanitizer
#   breakeven-1, -128, -16, -1024   sparse products beside cuBLAS and cuSPARSE
#   speedup       whole networks beside libtorch and PyTorch's CUDA graphs
#   training      plans/gpu.toml, as far as the time goes; goes on where it stopped
#   wgpu          products and a network through Vulkan
#   benches       every kernel variant
#   racecheck, sweeps, wgpu-networks, all-benches   the longer ones of `second`
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
self=$here/$(basename "$0")

FIRST='card smoke conformance memcheck breakeven-1 breakeven-128 breakeven-16 breakeven-1024 speedup training wgpu
  benches'
SECOND='card training racecheck sweeps wgpu-networks all-benches'
NETWORKS='lenet-300-100,lenet-5,convnet,nin,alexnet'

fail() { echo "$1" >&2; exit 2; }
usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "$self" | sed '$d'; }

# Seconds that a step may take.
limit() {
  case $1 in
    card) echo 20 ;;
    smoke) echo 40 ;;
    conformance) echo 80 ;;
    memcheck) echo 45 ;;
    # At N = 1 most of it makes thousands of sets of small operands.
    breakeven-1) echo 45 ;;
    breakeven-*) echo 30 ;;
    speedup) echo 110 ;;
    training) echo 400 ;;
    wgpu) echo 40 ;;
    benches) echo 40 ;;
    racecheck) echo 60 ;;
    sweeps) echo 120 ;;
    train) echo 86400 ;;
    *) echo 600 ;;
  esac
}

# Seconds that are kept for the steps after training.
kept_for_later() {
  local later=0 step seen=
  for step in "$@"; do
    [ -n "$seen" ] && later=$((later + $(limit "$step")))
    [ "$step" = training ] && seen=1
  done
  echo $later
}

# --- What the programs need on this host, found out once and handed to every step ---------------------------

prepare() {
  mkdir -p "$work/results" "$work/logs" || fail "cannot write to $work: name another folder in SCALPEL_WORK"
  # The programs come packed; unpacked once.
  if [ ! -e "$work/bin/.unpacked" ]; then
    rm -rf "$work/bin"
    # By tar where there is an xz, else by Python, which has its own.
    tar -xJf "$here/bin.tar.xz" -C "$work" 2> /dev/null ||
      python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$here/bin.tar.xz" "$work" ||
      fail "cannot unpack $here/bin.tar.xz into $work"
    touch "$work/bin/.unpacked"
  fi
  # libtorch of the very version that the programs were built for, and CUDA's libraries beside it.
  local find='import os, torch; assert torch.__version__.startswith("2.11.0"); print(os.path.dirname(torch.__file__))'
  local torch=${SCALPEL_LIBTORCH:-}
  if [ -z "$torch" ]; then
    torch=$(python3 -c "$find" 2> "$work/logs/torch.log") || {
      torch=
      echo 'python3 has no torch 2.11.0: what needs libtorch will fail (set SCALPEL_LIBTORCH to its folder)' >&2
    }
  fi
  local libraries=$torch/lib folder
  for folder in "$torch"/../nvidia/*/lib; do
    [ -d "$folder" ] && libraries=$libraries:$folder
  done
  [ -d /usr/local/nvidia/lib64 ] && libraries=$libraries:/usr/local/nvidia/lib64
  export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  [ -d "$torch/../nvidia/cu13/lib" ] && export SCALPEL_CUDA_LIB=$torch/../nvidia/cu13/lib
  # Found out by libtorch at the first question about CUDA, for good: so it is there before any.
  export torch_cuda=
  [ -e "$torch/lib/libtorch_cuda.so" ] && torch_cuda=$torch/lib/libtorch_cuda.so
  # Dense layers multiply in TF32, as cuDNN's convolutions do by themselves.
  export TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=${TORCH_ALLOW_TF32_CUBLAS_OVERRIDE:-1}
  export PYTHONUNBUFFERED=1 RUST_BACKTRACE=0
  # Data that came with the bundle, or in parts.
  if [ -z "${SCALPEL_DATA_DIR:-}" ]; then
    export SCALPEL_DATA_DIR=$work/data
    mkdir -p "$work/data"
    [ -d "$here/data/mnist" ] && cp -rn "$here/data/mnist" "$work/data/" 2> /dev/null
  fi
  export cuda=cuda
  if [ -n "$rehearse" ]; then
    cuda=cuda-shim
    export SCALPEL_TEST_DEVICES=cuda-shim,wgpu
    torch_cuda=
  else
    # The suites also know stand-ins on the processor: here the GPU is asked.
    export SCALPEL_TEST_DEVICES=${SCALPEL_TEST_DEVICES:-cuda}
    # Through wgpu, the same GPU: not a software Vulkan that may lie beside it.
    export SCALPEL_WGPU_ADAPTER=${SCALPEL_WGPU_ADAPTER:-NVIDIA}
  fi
}

# A program of the bundle.
program() {
  local name=$1
  shift
  "$work/bin/$name" "$@"
}

# A program that uses libtorch on the GPU.
torch_program() {
  if [ -n "$torch_cuda" ]; then
    LD_PRELOAD=$torch_cuda${LD_PRELOAD:+:$LD_PRELOAD} program "$@"
  else
    program "$@"
  fi
}

# --- The steps ----------------------------------------------------------------------------------------------

step_card() {
  date -u
  uname -a
  nproc
  if [ -n "$rehearse" ]; then
    echo 'a rehearsal: no GPU'
  else
    nvidia-smi && nvidia-smi -q -d CLOCK,POWER,MEMORY,COMPUTE | head -90
  fi
  local status=$?
  python3 -c 'import torch; print("torch", torch.__version__, torch.version.cuda, torch.backends.cudnn.version())'
  command -v compute-sanitizer && compute-sanitizer --version
  echo "LD_LIBRARY_PATH=$LD_LIBRARY_PATH"
  ldd "$work/bin/speedup" | grep -i 'not found'
  return $status
}

# speedup <networks> <batches> [more]
networks() {
  local device=$1 of=$2 batch=$3
  shift 3
  torch_program speedup ${of//,/ } --device "$device" --batch "$batch" --zoo-dir "$here/zoo" \
    --results "$work/results" --threads 1 --fresh "$@"
}

step_smoke() { networks "$cuda" lenet-300-100 1 --profile; }

step_speedup() {
  local python=()
  python3 -c 'import torch' 2> /dev/null && python=(--pytorch python3)
  if [ -n "$rehearse" ]; then
    networks "$cuda" lenet-300-100 2 "${python[@]}"
  else
    # The ones that run longest last.
    networks "$cuda" "$NETWORKS" 1,16,128 "${python[@]}"
  fi
}

# Groups of tests, and single tests of a group that failed: each in a process, and so in a context, of its own.
step_conformance() {
  local status=0 groups group test
  if [ -n "$rehearse" ]; then
    groups='device::gpu:: kernels::csr_spmm::'
  else
    export SCALPEL_REQUIRE=cuda,nvrtc
    groups=$(program conformance --list 2> /dev/null | sed -n 's/: test$//p' |
      grep -E '^(kernels|device|engine::tests|baselines::(cuda|rotation))' |
      sed -E 's/^(kernels::[a-z_]+|engine::tests|[a-z]+::[a-z_]+)::.*/\1::/' | sort -u)
  fi
  for group in $groups; do
    if timeout -k 5 60 "$work/bin/conformance" "$group" --test-threads=4; then
      echo "GROUP $group ok"
    else
      status=1
      echo "GROUP $group FAILED; its tests one by one:"
      for test in $(program conformance --list "$group" 2> /dev/null | sed -n 's/: test$//p'); do
        timeout -k 5 30 "$work/bin/conformance" --exact "$test" --nocapture > "$work/logs/test.log" 2>&1 &&
          echo "TEST $test ok" || { echo "TEST $test FAILED"; tail -n 30 "$work/logs/test.log"; }
      done
    fi
  done
  return $status
}

# The smallest test of each operation under a tool of compute-sanitizer.
sanitized() {
  local tool=$1 sanitizer status=0 test
  if command -v compute-sanitizer > /dev/null; then
    sanitizer=(compute-sanitizer --tool "$tool" --error-exitcode 1)
  elif [ -n "$rehearse" ]; then
    sanitizer=(env)
  else
    echo 'compute-sanitizer is not on the PATH'
    return 1
  fi
  for test in recorded_steps_run_when_they_are_replayed blocks_rows_and_chunks_join_on_gpus \
    teams_and_strips_join_on_gpus tiles_panels_and_parts_join_on_gpus the_networks_convolutions_in_small_agree_on_gpus \
    every_operation_computes_what_the_reference_does_on_gpus; do
    # The smallest alone fit a rehearsal.
    [ -n "$rehearse" ] && [ "$test" != recorded_steps_run_when_they_are_replayed ] && continue
    if timeout -k 5 40 "${sanitizer[@]}" "$work/bin/conformance" --test-threads=1 "$test"; then
      echo "$tool $test ok"
    else
      status=1
      echo "$tool $test FAILED"
    fi
  done
  return $status
}

step_memcheck() { sanitized memcheck; }
step_racecheck() { sanitized racecheck; }

step_breakeven() {
  local arguments=(--device "$cuda" --results "$work/results" --columns "$1")
  [ -n "$rehearse" ] && arguments+=(--shape 64x64 --density 0.2)
  program breakeven "${arguments[@]}"
}

step_sweeps() {
  local status=0
  program breakeven --device "$cuda" --results "$work/results" --density 0.05,0.1,0.2,0.3,0.4,0.6,0.8 \
    --columns 1,16,128,1024 --width 8 || status=1
  program breakeven --device "$cuda" --results "$work/results" --pattern upright --density 0.1,0.2,0.4 \
    --columns 1,16,128,1024 || status=1
  return $status
}

step_training() { step_train "$here/plans/${rehearse:+rehearsal-}gpu.toml"; }

# A campaign; what is done is skipped, what was cut goes on.
step_train() {
  local device=(--device cuda --parallel 7)
  [ -n "$rehearse" ] && device=(--device cpu --synthetic)
  torch_program campaign "$1" "${device[@]}" --results "$work/results" --checkpoints "$work/checkpoints"
}

step_wgpu() {
  local status=0
  local arguments=(--device wgpu --results "$work/results" --columns 1,128)
  [ -n "$rehearse" ] && arguments=(--device wgpu --results "$work/results" --columns 1 --shape 64x64 --density 0.2)
  program breakeven "${arguments[@]}" || status=1
  networks wgpu lenet-300-100 1 --profile || status=1
  return $status
}

step_wgpu_networks() { networks wgpu "$NETWORKS" 1,16,128; }

step_benches() {
  local status=0
  if [ -n "$rehearse" ]; then
    program bench_group_spmm --device "$cuda" 64x64 1
    return
  fi
  program bench_masked_dense --device "$cuda" 1 || status=1
  program bench_masked_dense --device "$cuda" 128 || status=1
  program bench_group_spmm --device "$cuda" 4096x4096 || status=1
  program bench_group_spmm --device "$cuda" 4096x4096 128 8 upright || status=1
  return $status
}

step_all_benches() {
  local status=0
  program bench_group_spmm --device "$cuda" || status=1
  program bench_masked_dense --device "$cuda" || status=1
  return $status
}

# --- Packing ------------------------------------------------------------------------------------------------

# Everything so far in one archive: written aside, then renamed. A log is kept to its last 200 kB.
pack() {
  local packed=$work/packed
  rm -rf "$packed"
  mkdir -p "$packed/logs" "$out"
  cp "$here/COMMIT" "$work/page.md" "$packed/" 2> /dev/null
  [ -n "$rehearse" ] && echo 'A rehearsal: none of these numbers is a GPU'"'"'s.' > "$packed/REHEARSAL"
  cp -r "$work/results" "$packed/results"
  local log
  for log in "$work"/logs/*; do
    [ -f "$log" ] && tail -c 200000 "$log" > "$packed/logs/$(basename "$log")"
  done
  for log in "$work"/checkpoints/logs/*; do
    [ -f "$log" ] && tail -c 20000 "$log" > "$packed/logs/training-$(basename "$log")"
  done
  tar -czf "$out/.results.tgz.partial" -C "$packed" . && mv "$out/.results.tgz.partial" "$out/results.tgz"
  cp "$work/page.md" "$out/page.md" 2> /dev/null
  pack_checkpoints
}

# What training has come to, as far as 15 MB of it go, the smallest first.
pack_checkpoints() {
  [ -d "$work/checkpoints" ] || return 0
  local list=$work/checkpoints.list sum=0 size file
  : > "$list"
  while read -r size file; do
    sum=$((sum + size))
    [ "$sum" -gt 15000000 ] && break
    echo "$file" >> "$list"
  done < <(cd "$work/checkpoints" && find . -type f ! -name '*.log' ! -name '.*' -printf '%s %p\n' | sort -n)
  tar -czf "$out/.checkpoints.tgz.partial" -C "$work/checkpoints" -T "$list" &&
    mv "$out/.checkpoints.tgz.partial" "$out/checkpoints.tgz"
}

# --- Running ------------------------------------------------------------------------------------------------

page_begin() {
  {
    echo "# ${rehearse:+Rehearsal of }\`run.sh $*\`, $(date -u '+%Y-%m-%d %H:%M') UTC, commit $(cat "$here/COMMIT")"
    echo
    echo '| step | outcome | seconds | its last line |'
    echo '| --- | --- | --- | --- |'
  } > "$work/page.md"
}

page_line() {
  local last=
  [ -f "$work/logs/$1.log" ] && last=$(grep -v '^[[:space:]]*$' "$work/logs/$1.log" | tail -n 1 | tr '|' '/' | cut -c1-100)
  echo "| $1 | $2 | $3 | $last |" >> "$work/page.md"
}

# Ends what is left of a step. `timeout` leads its process group, but is gone once the step's shell is, which may be
# before a program that ignores the signal.
end_group() {
  local tenths=50
  while ((tenths-- > 0)) && kill -0 -- "-$1" 2> /dev/null; do sleep 0.1; done
  kill -KILL -- "-$1" 2> /dev/null
}

# Told to end: what there is is packed before a step that does not end is waited for.
stop() {
  [ -n "$child" ] && kill "$child" 2> /dev/null
  pack
  [ -n "$child" ] && end_group "$child"
  exit 143
}

# Runs steps, one after the other, each in a process of its own with a limit.
run_steps() {
  local end=$((SECONDS + budget)) step status started limit left
  page_begin "$title"
  for step in "$@"; do
    left=$((end - SECONDS))
    limit=$(limit "$step")
    [ "$step" = training ] && left=$((left - $(kept_for_later "$@")))
    [ "$limit" -gt "$left" ] && limit=$left
    if [ "$limit" -lt 3 ]; then
      page_line "$step" 'left out: no time' 0
      continue
    fi
    echo "== $step, at most $limit s" >&2
    started=$SECONDS
    timeout -k 5 "$limit" bash "$self" --step "$step" > "$work/logs/$step.log" 2>&1 &
    child=$!
    wait "$child"
    status=$?
    end_group "$child"
    child=
    case $status in
      0) status=done ;;
      124 | 137) status="cut after $limit s" ;;
      *) status="failed ($status)"; failed=1 ;;
    esac
    page_line "$step" "$status" $((SECONDS - started))
    echo "   $status, $((SECONDS - started)) s" >&2
    pack
  done
  pack
  cat "$work/page.md"
}

out=
rehearse=${SCALPEL_REHEARSE:-}
budget=
failed=0
words=()
while [ $# -gt 0 ]; do
  case $1 in
    --out) [ $# -gt 1 ] || fail '--out needs a folder'; out=$2; shift ;;
    --budget) [ $# -gt 1 ] || fail '--budget needs seconds'; budget=$2; shift ;;
    --rehearse) rehearse=1 ;;
    --help | -h) usage; exit 0 ;;
    *) words+=("$1") ;;
  esac
  shift
done
export SCALPEL_REHEARSE=$rehearse
# Beside neither the bundle nor the results: both may be replaced between two calls.
work=${SCALPEL_WORK:-${TMPDIR:-/tmp}/scalpel-$(cat "$here/COMMIT")${rehearse:+-rehearsal}}
export SCALPEL_WORK=$work

if [ "${words[0]:-}" = --step ]; then
  name=${words[1]}
  case $name in
    breakeven-*) step_breakeven "${name#breakeven-}" ;;
    train) step_train "${SCALPEL_PLAN:-}" ;;
    *) "step_${name//-/_}" ;;
  esac
  exit
fi
if [ "${words[0]:-}" = data ]; then
  mkdir -p "$work/parts"
  [ ${#words[@]} -gt 1 ] || fail 'data takes the parts that are here'
  cp "${words[@]:1}" "$work/parts/" || exit 1
  # The last part says how many there are: cifar-10.tar.gz.3-of-5.
  count=$(basename "${words[1]}" | sed 's/.*-of-//')
  if [ "$(find "$work/parts" -type f | wc -l)" -eq "$count" ]; then
    mkdir -p "$work/data"
    for ((part = 1; part <= count; part++)); do cat "$work"/parts/*."$part-of-$count"; done |
      tar -xzf - -C "$work/data" || exit 1
    echo "CIFAR-10 is whole, in $work/data"
  else
    echo "$(find "$work/parts" -type f | wc -l) of $count parts are here"
  fi
  exit
fi
[ ${#words[@]} -gt 0 ] || { usage >&2; exit 2; }
[ -n "$out" ] || fail "name a folder for what comes back: $0 ${words[*]} --out <folder>"
mkdir -p "$out" || fail "cannot write to $out"
out=$(cd "$out" && pwd)
title="${words[*]}"
case ${words[0]} in
  first) read -r -d '' -a steps <<< "$FIRST"; budget=${budget:-540} ;;
  second) read -r -d '' -a steps <<< "$SECOND"; budget=${budget:-270} ;;
  train)
    [ -f "${words[1]:-}" ] || fail "train takes a plan, such as $here/plans/cifar-10.toml"
    SCALPEL_PLAN=$(cd "$(dirname "${words[1]}")" && pwd)/$(basename "${words[1]}")
    export SCALPEL_PLAN
    steps=(train)
    budget=${budget:-86400}
    ;;
  *)
    steps=("${words[@]}")
    for step in "${steps[@]}"; do
      function=step_${step//-/_}
      [[ $step == breakeven-* ]] && function=step_breakeven
      declare -F "$function" > /dev/null || fail "$step is no step; see $0 --help"
    done
    budget=${budget:-3600}
    ;;
esac
prepare
child=
trap stop TERM INT
run_steps "${steps[@]}"
exit $failed
