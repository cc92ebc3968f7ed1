#!/usr/bin/env bash
# Checks, calibrates and measures awsnet on the GPU of this machine. Part of a bundle (tools/bundle).
#
#   ./run.sh [PART...]      all parts, or those named
#
# Every part has a time limit of its own, and a failed one stops nothing. The record, one folder for each run, holds what
# every part wrote and a table, table.md, both whole after every part: whoever is stopped keeps what is done. Where OUT
# names a folder, record.tgz in it is made anew after every part. Exit code 0: no part failed. AWSNET_PYTHON names the
# python3 to take. On the emulated driver (emulator/) the parts that need a real GPU are skipped, and the others run on
# less.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
here=$PWD

export TMPDIR=$here/unpacked/tmp
mkdir -p "$TMPDIR"
for archive in programs sanitizer; do
  if [ -e $archive.tar.gz ] && [ ! -e "unpacked/$archive/.unpacked" ]; then
    mkdir -p "unpacked/$archive"
    tar -xzf $archive.tar.gz -C "unpacked/$archive" && touch "unpacked/$archive/.unpacked" || exit 1
  fi
done
export AWSNET_TEST_HOME=$here/unpacked/programs AWSNET_TEST_DRIVER=libcuda.so.1 RUST_BACKTRACE=0
export AWSNET_CALIBRATION_MODULE=$AWSNET_TEST_HOME/lib/calibration.fatbin
bin=$AWSNET_TEST_HOME/bin
awsnet=$bin/awsnet
library=$AWSNET_TEST_HOME/lib/libawsnet.so
python=${AWSNET_PYTHON:-$(command -v python3 || true)}

model() { # architecture, size
  local file=$here/unpacked/$1-$2.safetensors
  [ -e "$file" ] || "$awsnet" init --arch "$1" --size "$2" -o "$file" >&2 || return 1
  echo "$file"
}

# The parts. Each writes its log to standard output, and the words for its row of the table to file descriptor 3.
# Status 0 is a success; 77 means that it makes no sense here, and the words say why.
skip() { echo "$*" >&3; exit 77; }
on_a_gpu() { [ -z "$emulated" ] || skip "an emulated device has no speed"; }

part_machine() {
  date -u +%Y-%m-%dT%H:%M:%SZ
  uname -srm
  head -n 4 /etc/os-release
  sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | sort | uniq -c
  if command -v nvidia-smi; then
    nvidia-smi
    nvidia-smi -q -d CLOCK,POWER,TEMPERATURE,COMPUTE,ECC
  fi
  "$awsnet" --version
  "$awsnet" doctor || return
  [ -n "$device" ] || { echo "no CUDA device that awsnet can use" >&3; return 1; }
  echo "$device" >&3
}

part_calibration() {
  AWSNET_CALIBRATION_WRITE=$record/calibration.safetensors "$bin/test-calibration" --nocapture || return
  echo "every wrapper as defined; bits kept" >&3
}

part_kernels() {
  local small=()
  [ -z "$emulated" ] || small=(AWSNET_TEST_SMALL=12)
  # every_kernel_has_cases is about the table, which the repository's own tests hold against the kernels.
  env "${small[@]}" "$bin/test-kernels" --nocapture --skip every_kernel_has_cases
  local status=$?
  sed -n 's/.*: \([0-9]*\) cases; the largest error is \([0-9.]*\) of.*/\1 \2/p' "$record/logs/kernels.log" |
    awk '{n += $1; if ($2 > w) w = $2} END {printf "%d cases, the largest error %.3f of its bound\n", n, w}' >&3
  return "$status"
}

# `faults` needs a driver that fails on demand.
part_networks() {
  local some=()
  [ -z "$emulated" ] || some=(sessions:: logits_and_decisions the_same_bits)
  "$bin/test-cuda" --nocapture "${some[@]}" --skip faults::
  local status=$?
  sed -n 's/^test result: [^.]*\. \([0-9]* passed; [0-9]* failed\).*/\1/p' "$record/logs/networks.log" >&3
  return "$status"
}

part_library() {
  [ -n "$python" ] || skip "no python3"
  "$python" library.py "$library" "$(model tiny 32)" || return
  echo "runs from the host and queued runs agree with the reference" >&3
}

# From host memory to host memory, by the command line; and between two events on the device, the L2 warm and cold.
part_bench() {
  on_a_gpu
  local size file
  for size in 112 224; do
    file=$(model resnet18 $size) || return
    "$awsnet" bench "$file" --device cuda:0 --precision f16 --batch 1,8,64 --nodes --json >"$record/host-$size.jsonl" || return
    [ -z "$python" ] || "$python" library.py "$library" "$file" --times >"$record/device-$size.jsonl" || return
  done
  head -n 20 "$record"/*.jsonl
  local median='s/.*"median_ms":\([0-9.]*\).*/host \1 ms/p' times='s/.*"warm_us": \([0-9.]*\), "cold_us": \([0-9.]*\).*/, warm \1 us, cold \2 us/p'
  echo "ResNet-18, 112, batch 1: $(sed -n "1$median" "$record/host-112.jsonl")$([ -z "$python" ] || sed -n "1$times" "$record/device-112.jsonl")" >&3
}

# Tiles for batch 1, and the same runs with them.
part_tune() {
  on_a_gpu
  local size file tuning=$record/tuning.json
  for size in 112 224; do
    file=$(model resnet18 $size) || return
    "$awsnet" tune "$file" --device cuda:0 --precision f16 --batch 1 -o "$tuning" || return
    [ -z "$python" ] ||
      AWSNET_TUNE=$tuning "$python" library.py "$library" "$file" --times --batch 1 >>"$record/device-tuned.jsonl" || return
  done
  [ -z "$python" ] || head -n 20 "$record"/device-*.jsonl
  sed -n '1s/.*"warm_us": \([0-9.]*\), "cold_us": \([0-9.]*\).*/ResNet-18, 112, batch 1: warm \1 us, cold \2 us/p' \
    "$record/device-tuned.jsonl" >&3
}

# What each kernel waits for, caches and clocks as in service.
part_profile() {
  on_a_gpu
  command -v ncu || skip "no ncu"
  local size batch kernels=19  # of a ResNet-18
  for size in 112:1 224:64; do
    batch=${size#*:} size=${size%:*}
    ncu --clock-control none --cache-control none --graph-profiling node --section SpeedOfLight --section LaunchStats \
      --section Occupancy --section WarpStateStats --section SchedulerStats --launch-skip $kernels --launch-count $kernels \
      --csv --page raw "$awsnet" bench "$(model resnet18 "$size")" --device cuda:0 --precision f16 --batch "$batch" --runs 10 \
      >"$record/profile-$size-$batch.csv" || return
  done
  echo "$kernels kernels each at 112, batch 1, and 224, batch 64" >&3
}

# awsnet beside PyTorch; words: the last line of its table.
pytorch() { # name of the files, seconds after which nothing new begins, further arguments...
  on_a_gpu
  [ -n "$python" ] || skip "no python3"
  "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' || skip "no torch with CUDA in $python"
  local file=$record/$1
  "$python" compare.py --library "$library" --json "$file.json" --table "$file.md" --seconds "$2" "${@:3}" \
    "$(model resnet18 112)" "$(model resnet18 224)" || return
  sed -n '$p' "$file.md" >&3
}
part_pytorch() { pytorch pytorch 35; }
part_compile() { pytorch compile 60 --compile; }

# A subset, because everything is many times slower under it: cases spread evenly over the operators, a small network.
sanitizer() { # tool, cases of an operator
  [ -z "$emulated" ] || skip "it watches real GPUs only"
  local program found=''
  for program in "$here/unpacked/sanitizer/compute-sanitizer" compute-sanitizer /usr/local/cuda/bin/compute-sanitizer; do
    if "$program" --version; then found=$program; break; fi
  done
  [ -n "$found" ] || skip "no compute-sanitizer"
  unset TMPDIR  # the names of its sockets have to be short
  local watch=("$found" --tool "$1" --error-exitcode 9 --print-limit 20)
  AWSNET_TEST_SMALL=$2 "${watch[@]}" "$bin/test-kernels" --nocapture --test-threads 1 --skip every_kernel_has_cases || return
  "${watch[@]}" "$bin/test-cuda" --nocapture --test-threads 1 --exact sessions::a_deadline_that_is_kept_changes_nothing || return
  echo "no error in $2 cases of each operator and a network" >&3
}
part_memcheck() { sanitizer memcheck 12; }
part_racecheck() { sanitizer racecheck 6; }
part_initcheck() { sanitizer initcheck 6; }
part_synccheck() { sanitizer synccheck 12; }

# Seconds that each part may take, about twice what an H100 needed; the parts are in the order of their worth.
all=(machine:15 calibration:10 kernels:30 library:10 bench:45 pytorch:60 tune:40 networks:90 memcheck:15 racecheck:20 initcheck:15 synccheck:15 profile:60 compile:170)

run_part() { # name, seconds
  local name=$1 limit=$2 began=$SECONDS status words
  echo "== $name (at most $limit s)"
  # A process group of its own, so that the limit ends all of it.
  setsid bash "$here/run.sh" --part "$name" >"$record/logs/$name.log" 2>&1 3>"$record/logs/$name.words" &
  local group=$!
  (
    for ((waited = 0; waited < limit; waited++)); do
      sleep 1
      kill -0 "$group" 2>/dev/null || exit 0
    done
    touch "$record/logs/$name.timeout"
    kill -TERM -- "-$group" 2>/dev/null
    sleep 2
    kill -KILL -- "-$group" 2>/dev/null
  ) &
  wait "$group"
  status=$?
  words=$(tail -n 1 "$record/logs/$name.words")
  rm "$record/logs/$name.words"
  case $status in
    0) outcome=ok ;;
    77) outcome=skipped ;;
    *) outcome=failed words="${words:+$words; }see logs/$name.log" ;;
  esac
  [ ! -e "$record/logs/$name.timeout" ] || outcome=failed words="not done after $limit s; see logs/$name.log"
  rm -f "$record/logs/$name.timeout"
  rows+=("| $name | $outcome | $((SECONDS - began)) | $words |")
  echo "   $outcome: $words"
}

# The driver is asked once; the parts inherit the answer.
if [ "${1:-}" = --part ]; then
  "part_$2"
  exit
fi
device=$(timeout 20 "$awsnet" doctor 2>&1 | sed -n 's/^cuda:0 *\([^,]*\),.*/\1/p')
emulated=''
[ "$device" != "awsnet emulator" ] || emulated=yes
record=$here/record/$(date +%Y-%m-%d-%H%M%S)-$(printf '%s' "${device:-no device}" | tr -cs 'A-Za-z0-9' '-')
export device emulated record
mkdir -p "$record/logs"
parts=("$@")
[ $# -gt 0 ] || parts=("${all[@]%%:*}")
rows=() failed=0
write_table() {
  {
    echo "# $(date +%Y-%m-%d): ${device:-no device}"
    echo
    cat MADE
    echo
    echo "| part | | s | |"
    echo "| --- | --- | --- | --- |"
    printf '%s\n' "${rows[@]}"
  } >"$record/table.md.part"
  mv "$record/table.md.part" "$record/table.md"
  [ -z "${OUT:-}" ] || { tar -czf "$OUT/record.tgz.part" record && mv "$OUT/record.tgz.part" "$OUT/record.tgz"; }
}
for name in "${parts[@]}"; do
  limit=''
  for row in "${all[@]}"; do [ "${row%%:*}" != "$name" ] || limit=${row##*:}; done
  [ -n "$limit" ] || { echo "run.sh: no part $name; there are: ${all[*]%%:*}" >&2; exit 2; }
  run_part "$name" "$limit"
  [ "$outcome" != failed ] || failed=1
  write_table
done
echo
cat "$record/table.md"
echo
echo "record: $record"
exit $failed
