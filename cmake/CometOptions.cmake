# Flags that every Comet target shares, as the interface target comet_options.
add_library(comet_options INTERFACE)
target_compile_features(comet_options INTERFACE cxx_std_20)

# comet_cxx_options(<flag>...): for C++ alone; nvcc has its own (CometCuda.cmake).
function(comet_cxx_options)
  foreach(flag ${ARGN})
    target_compile_options(comet_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:${flag}>)
  endforeach()
endfunction()

comet_cxx_options(
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor -Wold-style-cast
  -Wno-sign-conversion
  # GCC 12 sees overlaps in std::string concatenation that are not there (bug 105651).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
# A product and a sum fused in one place and not in another would break bitwise equality of the
# schedules; GEMMs, where fusing pays, are the library's.
comet_cxx_options(-ffp-contract=off)
if(COMET_WERROR)
  comet_cxx_options(-Werror)
endif()
if(CMAKE_UNITY_BUILD)
  # In a merged source g++ takes each .cpp for a header. Preset cpu, where the library's sources are
  # compiled alone, has the warning for real headers.
  comet_cxx_options($<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
endif()
if(COMET_NATIVE)
  comet_cxx_options(-march=native)
endif()
if(COMET_FUZZ)
  comet_cxx_options(-fsanitize=fuzzer-no-link)
endif()
if(COMET_SANITIZE)
  comet_cxx_options(
    -fsanitize=${COMET_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  # These cost half of the compile time. AddressSanitizer finds most of what they do, and the fuzz
  # build keeps alignment for the readers of files, where it matters.
  comet_cxx_options(-fno-sanitize=null,object-size,vptr)
  if(NOT COMET_FUZZ)
    comet_cxx_options(-fno-sanitize=alignment)
  endif()
  # g++ 12 warns falsely about its own headers once they are instrumented.
  comet_cxx_options(-Wno-maybe-uninitialized)
  target_link_options(comet_options INTERFACE -fsanitize=${COMET_SANITIZE})
endif()
