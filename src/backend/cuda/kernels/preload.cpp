// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/kernels/call_kernels.hpp"

namespace comet::cuda {

// One for each file.
void preload_publish_kernels();
void preload_small_call();
void preload_check_capacity();
void preload_dispatch_kernel();
void preload_combine_bf16();
void preload_combine_f16();
void preload_end_kernels();
void preload_order_kernels();
void preload_overlap_bf16_m128();
void preload_overlap_bf16_m64();
void preload_overlap_f16_m128();
void preload_overlap_f16_m64();

void preload_call_kernels() {
  preload_publish_kernels();
  preload_small_call();
  preload_check_capacity();
  preload_dispatch_kernel();
  preload_combine_bf16();
  preload_combine_f16();
  preload_end_kernels();
  preload_order_kernels();
  preload_overlap_bf16_m128();
  preload_overlap_bf16_m64();
  preload_overlap_f16_m128();
  preload_overlap_f16_m64();
}

}  // namespace comet::cuda
