# Flags that every Comet target shares, as the interface target comet_options.
add_library(comet_options INTERFACE)
target_compile_features(comet_options INTERFACE cxx_std_20)
target_compile_options(comet_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor -Wold-style-cast
  -Wno-sign-conversion
  # GCC 12 sees overlaps in std::string concatenation that are not there (bug 105651).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
# A product and a sum fused in one place and not in another would break bitwise equality of the
# schedules; GEMMs, where fusing pays, are the library's.
target_compile_options(comet_options INTERFACE -ffp-contract=off)
if(COMET_WERROR)
  target_compile_options(comet_options INTERFACE -Werror)
endif()
if(COMET_NATIVE)
  target_compile_options(comet_options INTERFACE -march=native)
endif()
if(COMET_FUZZ)
  target_compile_options(comet_options INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(COMET_SANITIZE)
  target_compile_options(comet_options INTERFACE
    -fsanitize=${COMET_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  # These cost half of the compile time. AddressSanitizer finds most of what they do, and the fuzz
  # build keeps alignment for the readers of files, where it matters.
  target_compile_options(comet_options INTERFACE -fno-sanitize=null,object-size,vptr)
  if(NOT COMET_FUZZ)
    target_compile_options(comet_options INTERFACE -fno-sanitize=alignment)
  endif()
  # g++ 12 warns falsely about its own headers once they are instrumented.
  target_compile_options(comet_options INTERFACE -Wno-maybe-uninitialized)
  target_link_options(comet_options INTERFACE -fsanitize=${COMET_SANITIZE})
endif()
