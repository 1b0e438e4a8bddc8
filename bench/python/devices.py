# SPDX-License-Identifier: Apache-2.0
"""Time and graphs of CUDA's device, and of a CPU, on which benchmarks rehearse."""

import gc
import time

import torch

HOLD_CYCLES = 1_000_000  # of the GPU's clock, about 0.5 ms: longer than it takes to launch a graph


class CudaDevice:
    """The current GPU."""

    name = "cuda"
    dtype = torch.bfloat16

    def __init__(self):
        self.device = torch.device("cuda", torch.cuda.current_device())
        self.label = torch.cuda.get_device_name()
        self._begin = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)

    def synchronize(self):
        torch.cuda.synchronize()

    def time_us(self, function, is_held=False):
        """Microseconds of the device, from where `function` begins to queue until all of it is done, and of the host
        until it has queued it. is_held: the device waits until about everything is queued."""
        if is_held:
            torch.cuda._sleep(HOLD_CYCLES)
        self._begin.record()
        begin = time.perf_counter()
        function()
        host_us = (time.perf_counter() - begin) * 1e6
        self._end.record()
        self._end.synchronize()
        return self._begin.elapsed_time(self._end) * 1e3, host_us

    def find_sync(self, function):
        """The first line of what PyTorch says where `function` waits for the device; None if it does not."""
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            function()
        except RuntimeError as error:
            if "synchroniz" not in str(error):
                raise
            return str(error).splitlines()[0]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        torch.cuda.synchronize()
        return None

    def capture(self, function):
        """(replay, what `function` returned): a replay writes the same memory again."""
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = function()
        torch.cuda.synchronize()
        return graph.replay, result

    def kernel_times(self, function):
        """(name, launches, microseconds) of each kernel that `function` runs, in the order of their first launches."""
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            function()
            torch.cuda.synchronize()
        return [(event.key, event.count, event.self_device_time_total) for event in profile.key_averages()
                if event.self_device_time_total > 0]

    def free(self):
        """Gives PyTorch's unused memory back, for others to have."""
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()

    def copy_rate(self):
        """Bytes a microsecond that memory reads and writes in a large copy, the best of five."""
        a = torch.empty(1 << 28, dtype=torch.float32, device=self.device)
        b = torch.empty_like(a)
        b.copy_(a)
        best = min(self.time_us(lambda: b.copy_(a), is_held=True)[0] for _ in range(5))
        return 2 * a.nbytes / best


class CpuDevice:
    """To rehearse: a graph runs its function anew, and times mean nothing."""

    name = "cpu"
    dtype = torch.float32

    def __init__(self):
        self.device = torch.device("cpu")
        self.label = "cpu"

    def synchronize(self):
        pass

    def time_us(self, function, is_held=False):
        begin = time.perf_counter()
        function()
        us = (time.perf_counter() - begin) * 1e6
        return us, us

    def find_sync(self, function):
        function()

    def capture(self, function):
        result = function()

        def replay():
            for kept, new in zip(result, function()):
                kept.copy_(new)

        return replay, result

    def kernel_times(self, function):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            function()
        return [(event.key, event.count, event.self_cpu_time_total) for event in profile.key_averages()]

    def free(self):
        gc.collect()

    def copy_rate(self):
        return None


def find_device(name):
    """The device of this name, "cuda" or "cpu"; ValueError with one sentence if it is not there."""
    if name == "cpu":
        return CpuDevice()
    if not torch.cuda.is_available():
        raise ValueError("--device: cuda, and PyTorch finds no GPU here; cpu rehearses")
    return CudaDevice()
