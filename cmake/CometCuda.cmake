# The CUDA language for Hopper, and the flags that all CUDA sources share, as the interface target
# comet_cuda_options. Included only where COMET_CUDA is on.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 90a-real) # wgmma and setmaxnreg exist in sm_90a alone
endif()
enable_language(CUDA)
# CMake 3.25 does not know how nvcc 13 is told C++20.
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
# The driver is asked for at run time and the runtime is linked statically: a binary starts, and says
# what is missing, where there is neither.
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
find_package(CUDAToolkit REQUIRED)

add_library(comet_cuda_options INTERFACE)

# NDEBUG in all builds: asserts in a kernel make ptxas serialise wgmma (C7510).
target_compile_options(comet_cuda_options INTERFACE
  $<$<COMPILE_LANGUAGE:CUDA>:-DNDEBUG -lineinfo --expt-relaxed-constexpr
    -Xcompiler=-Wall,-Wextra,-ffp-contract=off>)
if(COMET_WERROR)
  target_compile_options(comet_cuda_options INTERFACE
    $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings -Xcompiler=-Werror>)
endif()

# Of our own kernels none spills.
add_library(comet_kernel_options INTERFACE)
target_link_libraries(comet_kernel_options INTERFACE comet_cuda_options)
target_compile_options(comet_kernel_options INTERFACE
  $<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=--warn-on-spills>)
