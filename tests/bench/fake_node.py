# SPDX-License-Identifier: Apache-2.0
"""The folder that `make gpu-suite` packs, of programs that stand in for those that need GPUs: two GPUs whose
layers take as long as FIGURES say. FAKE_FAIL is a flag and its value whose benches fail; what the programs
are started with goes to the file FAKE_RECORD, a line each."""

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

COMET = r'''
import json, os, signal, sys, time
from pathlib import Path

words = sys.argv[1:]
with open(os.environ["FAKE_RECORD"], "a") as file:
    seen = {name: os.environ.get(name) for name in (
        "CUDA_VISIBLE_DEVICES", "NVSHMEM_DISABLE_NVLS", "NCCL_NVLS_ENABLE", "COMET_FORCE_PUTS")}
    file.write(json.dumps({"words": words, **seen}) + "\n")


def flag(of, name, otherwise=None):
    return of[of.index(name) + 1] if name in of else otherwise


def bench_rows(of):
    model, tokens, topk = flag(of, "--model"), int(flag(of, "--tokens")), int(flag(of, "--topk", 4))
    fail = os.environ.get("FAKE_FAIL", "").split()
    if fail and flag(of, fail[0]) == fail[1]:
        sys.exit("comet: [fake] it fails")
    row = {"suite": flag(of, "--suite"), "model": model, "tokens": tokens, "topk": topk, "hidden": 8, "intermediate": 8,
           "experts": 8, "ep": int(flag(of, "--ep")), "tp": int(flag(of, "--tp")), "ranks": 2, "device": "Fake H200",
           "link": flag(of, "--link"), "commit": "fake", "t_compute_us": 1000.0, "bytes_link": 4e8 / topk,
           "speedup_vs_sequential": 1.5, "panel": 8}
    for schedule in flag(of, "--schedules").split(","):
        for choice in flag(of, "--choices", "1:0:132/132:warps").split(",") if schedule == "comet" else [None]:
            parts = choice and choice.split(":")
            n_c = [int(word) for word in parts[2].split("/")] if choice else [int(flag(of, "--n-c-dispatch", 8))] * 2
            on = {"communication": parts[3] if choice else "warps",
                  "waves": int(parts[4]) if choice and len(parts) > 4 else 0} if schedule == "comet" else {}
            yield {**row, "schedule": schedule, "t_layer_us": {"sequential": 1650.0, "pipelined": 1400.0, "comet": 1100.0}[schedule],
                   "groups": int(parts[0]) if choice else 1, "n_c_dispatch": n_c[0], "n_c_combine": n_c[1], **on}


def bench():
    lines = Path(flag(words, "--cases")).read_text().splitlines() if "--cases" in words else [""]
    at = Path(flag(words, "--json"))
    for line in lines:
        rows = [{**row, "command": " ".join(["comet", *words, line])} for row in bench_rows([*line.split(), *words])]
        with at.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def endless(ranks):
    """Ranks that run until one dies or is stopped, who is then named."""
    children = []
    for _ in range(ranks):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        children.append(child)
    gone, status = os.waitpid(-1, os.WUNTRACED)
    for child in children:
        if child != gone or os.WIFSTOPPED(status):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    print(f"comet: rank {children.index(gone)} is gone", flush=True)
    os._exit(9)


if words[0] == "info":
    print(json.dumps({"machine": {"gpus": [{"name": "Fake H200"}] * 2}, "worlds": [{"name": "nvshmem", "built": True, "detail": ""}]}))
elif "bench" in words:
    bench()
elif "check" in words:
    if flag(words, "--random") == "1000000":
        endless(int(flag(words, "--ranks")))
    world = flag(words, "--world", "local") if words[0] == "check" else "nvshmem-puts" if seen["COMET_FORCE_PUTS"] else "nvshmem"
    print(json.dumps({"outputs": "same", "failures": 0, "calls": 7, "world": world}))
elif words[0] == "tune":
    Path(flag(words, "--profile")).write_text(Path(flag(words, "--rows")).read_text())
'''

LINK_RATES = r'''
import json, sys
rows = [{"suite": "node", "kind": "link", "peer": "other GPU", "gpus": 2, "device": "Fake H200", "direction": direction, "blocks": 16,
         "warps": 3, "ring": True, "gbs": 300.0, "gbs_spread": 1.0, "bytes": 1} for direction in ("pull", "push")]
rows.append({"suite": "node", "kind": "signal", "peer": "other GPU", "gpus": 2, "device": "Fake H200", "latency_ns": 1300.0})
rows.append({"suite": "node", "kind": "timer", "gpus": 2, "device": "Fake H200", "gpu_index": 1, "ahead_ns": 12300,
             "drift_ns_per_s": -250.0})
with open(sys.argv[sys.argv.index("--json") + 1], "w") as file:
    file.writelines(json.dumps(row) + "\n" for row in rows)
'''

NCCL = r'''
import json, os, sys
models = sys.argv[sys.argv.index("--models") + 1].split(",")
gpus = sys.argv[sys.argv.index("--gpus") + 1]
if "--splits" in sys.argv and sys.argv[sys.argv.index("--splits") + 1] != f"{gpus}x1,1x{gpus}":
    sys.exit("nccl_layer: --splits: a product of other GPUs")
counts = sys.argv[sys.argv.index("--tokens") + 1] if "--tokens" in sys.argv else "8192,16384,32768"
with open(sys.argv[sys.argv.index("--json") + 1], "a") as file:
    for model, _, topk in (model.partition(":") for model in models):
        for ep in (2, 1):
            for tokens in map(int, counts.split(",")):
                file.write(json.dumps({
                    "suite": "node", "kind": "nccl", "model": model, "topk": int(topk or 4), "tokens": tokens, "ep": ep, "tp": 2 // ep,
                    "t_layer_us": 2000.0, "communication_share": 0.5 if topk else 0.2, "date": "2026-01-01T00:00:00Z",
                    "run": os.environ["COMET_RUN"], "device": "Fake H200"}) + "\n")
'''

NVIDIA_SMI = r'''
import sys
print("\tGPU0\tGPU1\nGPU0\t X \tNV18\nGPU1\tNV18\t X " if sys.argv[1] == "topo" else "Fake H200\nFake H200")
'''

GTEST = r'''
print("[       OK ] Fake.Test (1 ms)\n[  PASSED  ] 1 test.")
'''


def write_program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{text}", encoding="utf-8")
    path.chmod(0o755)


def make_suite(folder):
    """As tools/gpu/pack_suite.sh does. Also programs/, for PATH."""
    for name, text in (("bin/comet", COMET), ("node/link_rates", LINK_RATES), ("tests/cuda_conformance_test", GTEST),
                       ("tests/cuda_layer_test", GTEST), ("programs/nvidia-smi", NVIDIA_SMI)):
        write_program(folder / name, text)
    for source in ("bench/cuda/overlap_grid.py", "bench/cuda/process_worlds.py", "bench/experiments/bench_cases.py",
                   "bench/python/mps.py", "bench/node/node_bench.py", "bench/node/node_tables.py"):
        to = folder / source.removeprefix("bench/").replace("cuda/", "bench/")
        to.parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / source, to)
    (folder / "node" / "nccl_layer.py").write_text(NCCL, encoding="utf-8")
    for source in ("bench/node.sh", "tools/gpu/unpack.sh"):
        shutil.copy(ROOT / source, folder)
    (folder / "evidence.env").write_text("commit=fake\nevidence_overlap=0001\nevidence_processes=0002\n", encoding="utf-8")
