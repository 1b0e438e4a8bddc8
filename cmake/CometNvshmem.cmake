# NVSHMEM, for the plugin of world nvshmem: sets comet_nvshmem_root to its folder, or to nothing. From
# -DNVSHMEM_HOME or the variable of the environment, where tools/install_deps.sh --cuda puts it, or the
# Python package nvidia-nvshmem-cu13. Included only where COMET_CUDA is on.
set(NVSHMEM_HOME "" CACHE PATH "NVSHMEM's folder, with include/ and lib/")
find_program(comet_python3 python3)
set(nvshmem_package "")
if(comet_python3)
  execute_process(
    COMMAND ${comet_python3} -c "import nvidia.nvshmem as n; print(list(n.__path__)[0])"
    OUTPUT_VARIABLE nvshmem_package OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
set(comet_nvshmem_root "")
foreach(root ${NVSHMEM_HOME} $ENV{NVSHMEM_HOME}
             ${PROJECT_SOURCE_DIR}/build/nvshmem/nvidia/nvshmem ${nvshmem_package})
  if(NOT comet_nvshmem_root AND EXISTS ${root}/include/nvshmem.h
     AND EXISTS ${root}/lib/libnvshmem_device.a AND EXISTS ${root}/lib/libnvshmem_host.so.3)
    set(comet_nvshmem_root ${root})
  endif()
endforeach()
if(comet_nvshmem_root)
  message(STATUS "NVSHMEM: ${comet_nvshmem_root}")
else()
  message(STATUS "NVSHMEM: none found, world nvshmem is left out; 'pip install nvidia-nvshmem-cu13' gets it")
endif()
