# SPDX-License-Identifier: Apache-2.0
"""Kernels of the NCCL baseline. Each has its like in torch for a CPU."""

import os

import torch
import triton
import triton.language as tl

# Triton's interpreter runs the kernels on a CPU.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@triton.jit
def silu_mul_kernel(fused, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < columns
    gate = tl.load(fused + row * 2 * columns + column, mask=mask).to(tl.float32)
    up = tl.load(fused + row * 2 * columns + columns + column, mask=mask).to(tl.float32)
    tl.store(out + row * columns + column, (gate * tl.sigmoid(gate) * up).to(tl.bfloat16), mask=mask)


@triton.jit
def gather_rows_kernel(rows, index, out, inverse, columns, DIVISOR: tl.constexpr,
                       INVERSE: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    source = tl.load(index + row).to(tl.int64)
    column = tl.arange(0, BLOCK)
    mask = column < columns
    value = tl.load(rows + source // DIVISOR * columns + column, mask=mask)
    tl.store(out + row.to(tl.int64) * columns + column, value, mask=mask)
    if INVERSE:
        tl.store(inverse + source, row)


@triton.jit
def expert_major_kernel(counts, index, ends, sources, experts, SOURCES: tl.constexpr,
                        EXPERTS: tl.constexpr, BLOCK: tl.constexpr):
    source, expert = tl.arange(0, SOURCES)[:, None], tl.arange(0, EXPERTS)[None, :]
    there = (source < sources) & (expert < experts)
    sizes = tl.load(counts + source * experts + expert, mask=there, other=0)  # of chunks
    flat = sizes.reshape(SOURCES * EXPERTS)
    received = (tl.cumsum(flat, 0) - flat).reshape(SOURCES, EXPERTS)
    # Beginnings and ends of chunks in expert-major order.
    received = tl.trans(received).reshape(SOURCES * EXPERTS)
    sizes = tl.trans(sizes).reshape(SOURCES * EXPERTS)
    end = tl.cumsum(sizes, 0)
    begin = end - sizes
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    within = (row[:, None] >= begin[None, :]) & (row[:, None] < end[None, :])
    shift = tl.sum(tl.where(within, (received - begin)[None, :], 0), 1)
    tl.store(index + row, row + shift, mask=row < tl.sum(sizes, 0))
    if tl.program_id(0) == 0:
        chunk = tl.arange(0, SOURCES * EXPERTS)
        is_last = (chunk % SOURCES == SOURCES - 1) & (chunk // SOURCES < experts)
        tl.store(ends + chunk // SOURCES, end, mask=is_last)


@triton.jit
def combine_kernel(rows, positions, weights, weight_stride, out, columns, TOPK: tl.constexpr,
                   BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    mask = column < columns
    total = tl.zeros((BLOCK,), tl.float32)
    for slot in tl.static_range(TOPK):
        position = tl.load(positions + token * TOPK + slot).to(tl.int64)
        weight = tl.load(weights + token * weight_stride + slot)
        total += weight * tl.load(rows + position * columns + column, mask=mask).to(tl.float32)
    tl.store(out + token * columns + column, total.to(tl.bfloat16), mask=mask)


def row_launch(columns):
    """A program per row: BLOCK and the warps that read it 16 bytes a thread, twice."""
    block = triton.next_power_of_2(columns)
    return {"BLOCK": block, "num_warps": min(8, max(1, block // 512))}


def runs_kernels(tensor):
    return tensor.is_cuda or INTERPRETED


def silu_mul(fused, out):
    """out [rows, I] = silu(gate) * up, of fused [rows, 2 I]."""
    columns = out.shape[1]
    if runs_kernels(fused):
        silu_mul_kernel[(out.shape[0], triton.cdiv(columns, 1024))](fused, out, columns, BLOCK=1024)
    else:
        gate, up = fused.float().split(columns, 1)
        out.copy_(torch.nn.functional.silu(gate) * up)


def gather_rows(rows, index, out, divisor=1, inverse=None):
    """out[i] = rows[index[i] / divisor] and, unless it is None, inverse[index[i]] = i."""
    if runs_kernels(rows):
        gather_rows_kernel[(out.shape[0],)](rows, index, out, out if inverse is None else inverse,
                                            rows.shape[1], DIVISOR=divisor,
                                            INVERSE=inverse is not None, **row_launch(rows.shape[1]))
        return
    torch.index_select(rows, 0, index // divisor, out=out)
    if inverse is not None:
        inverse[index.long()] = torch.arange(len(index), dtype=inverse.dtype)


def expert_major(counts, index, ends):
    """Of received rows, which come by source and then expert, as counts [sources, experts] says: index[i]
    is the place of row i of those sorted by expert and then source, and ends [experts] their ends."""
    sources, experts = counts.shape
    if runs_kernels(counts):
        expert_major_kernel[(triton.cdiv(len(index), 128),)](
            counts, index, ends, sources, experts, SOURCES=triton.next_power_of_2(sources),
            EXPERTS=triton.next_power_of_2(experts), BLOCK=128)
        return
    chunk = torch.arange(sources * experts).view(sources, experts).repeat_interleave(counts.flatten())
    expert, source = chunk % experts, chunk // experts
    order = torch.argsort(expert * sources + source, stable=True)
    index[:len(order)] = order
    ends.copy_(counts.sum(0).cumsum(0))


def combine(rows, positions, weights, out):
    """out[t] = sum over slots s of weights[t, s] * rows[positions[t, s]], in float32."""
    topk = weights.shape[1]
    if runs_kernels(rows):
        combine_kernel[(out.shape[0],)](rows, positions, weights, weights.stride(0), out, out.shape[1],
                                        TOPK=topk, **row_launch(out.shape[1]))
    else:
        chosen = rows[positions.long()].view(-1, topk, rows.shape[1]).float()
        out.copy_((chosen * weights[:, :, None]).sum(1))
