#!/usr/bin/env bash
# Measures and trains on a host with an NVIDIA GPU, its driver, and a PyTorch 2.11 for CUDA 13, without
# Rust. Everything it writes lies under $SCALPEL_OUT (here: results/), to be copied back.
#
#   ./run.sh conformance              every kernel on the GPU, compared with plain loops
#   ./run.sh sanitizer                the same under compute-sanitizer
#   ./run.sh bench                    every variant beside cuBLAS and cuSPARSE
#   ./run.sh breakeven                the sweeps, through CUDA and, where Vulkan shows the GPU, through wgpu
#   ./run.sh speedup                  whole networks beside libtorch (cuDNN, cuBLAS), CUDA and wgpu
#   ./run.sh train plans/cifar-10.toml ...   a campaign, four runs at once on each GPU (--gpus 2)
#   ./run.sh all                      conformance, sanitizer, breakeven, speedup, bench, one after the other
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${SCALPEL_OUT:-$here/results}

fail() { echo "$1" >&2; exit 1; }

# Finds what the programs need on this host.
prepare() {
  mkdir -p "$out"
  # The programs come packed.
  if [ "$here/bin.tar.gz" -nt "$here/bin/.unpacked" ]; then
    rm -rf "$here/bin"
    tar -xzf "$here/bin.tar.gz" -C "$here"
    touch "$here/bin/.unpacked"
  fi
  # libtorch of the very version that the programs were built for, and the libraries of CUDA beside it.
  local find='import os, torch; assert torch.__version__.startswith("2.11.0"); print(os.path.dirname(torch.__file__))'
  torch=$(python3 -c "$find") ||
    fail "python3 has no torch 2.11.0: install it, or put the python3 that has it first on the PATH"
  libraries=$torch/lib
  for folder in "$torch"/../nvidia/*/lib; do
    [ -d "$folder" ] && libraries=$libraries:$folder
  done
  export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  [ -d "$torch/../nvidia/cu13/lib" ] && export SCALPEL_CUDA_LIB=$torch/../nvidia/cu13/lib
  SCALPEL_COMMIT=$(cat "$here/COMMIT")
  export SCALPEL_COMMIT
  # The suites also know a stand-in for CUDA on the CPU and a software Vulkan: here the GPU is asked.
  export SCALPEL_TEST_DEVICES=${SCALPEL_TEST_DEVICES:-cuda,wgpu}
  # Dense layers multiply in TF32, as cuDNN's convolutions do by themselves.
  export TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=${TORCH_ALLOW_TF32_CUBLAS_OVERRIDE:-1}
  # Through wgpu, the same GPU: not a software Vulkan that may lie beside it.
  export SCALPEL_WGPU_ADAPTER=${SCALPEL_WGPU_ADAPTER:-NVIDIA}
}

conformance() {
  SCALPEL_REQUIRE=cuda,nvrtc "$here/bin/conformance" kernels:: device:: engine::suite baselines::cuda \
    --test-threads=4 --nocapture 2>&1 | tee "$out/conformance.log"
}

sanitizer() {
  command -v compute-sanitizer > /dev/null || fail 'compute-sanitizer is not on the PATH'
  local tool
  for tool in memcheck racecheck synccheck; do
    SCALPEL_TEST_DEVICES=cuda SCALPEL_REQUIRE=cuda,nvrtc compute-sanitizer --tool "$tool" \
      --error-exitcode 1 "$here/bin/conformance" --test-threads=1 \
      blocks_rows_and_chunks_join_on_gpus tiles_panels_and_parts_join_on_gpus \
      the_networks_convolutions_in_small_agree_on_gpus every_operation_computes_what_the_reference_does_on_gpus \
      2>&1 | tee "$out/sanitizer-$tool.log"
  done
}

breakeven() {
  "$here/bin/breakeven" --device cuda --results "$out" "$@"
  "$here/bin/breakeven" --device wgpu --results "$out" "$@" || echo 'through wgpu: not measured' >&2
}

bench() {
  "$here/bin/bench_group_spmm" --device cuda 2>&1 | tee "$out/bench-group_spmm.txt"
  "$here/bin/bench_masked_dense" --device cuda 2>&1 | tee "$out/bench-masked_dense.txt"
}

speedup() {
  local common=(--models "$here/zoo" --results "$out" --threads 1 --fresh --explain)
  "$here/bin/speedup" --device cuda "${common[@]}" "$@" 2>&1 | tee "$out/speedup-cuda.log"
  "$here/bin/speedup" --device wgpu "${common[@]}" "$@" 2>&1 | tee "$out/speedup-wgpu.log" ||
    echo 'through wgpu: not measured' >&2
}

train() {
  [ -f "${1:-}" ] || fail "train <plan>, such as $here/plans/cifar-10.toml"
  "$here/bin/campaign" "$@" --device cuda --results "$out" --checkpoints "$out/checkpoints"
}

command=${1:-}
[ $# -gt 0 ] && shift
case $command in
  conformance | sanitizer | breakeven | speedup | bench | train) prepare; "$command" "$@" ;;
  all) prepare; conformance; sanitizer || true; breakeven; speedup; bench ;;
  *) sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
