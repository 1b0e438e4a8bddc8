# comet_fuzzer(<name> <source> [<seed folder>]): one libFuzzer harness, which defines
# LLVMFuzzerTestOneInput. With COMET_FUZZ (preset cpu-fuzz, clang) it is built for fuzzing, as part of
# the target fuzzers. In every other build it runs once over its seeds, as a test, so that harnesses
# keep compiling and a finding that is added to the seeds stays fixed.
if(COMET_FUZZ)
  add_custom_target(fuzzers)
endif()

function(comet_fuzzer name source)
  if(ARGC GREATER 2)
    cmake_path(ABSOLUTE_PATH ARGV2 NORMALIZE OUTPUT_VARIABLE seeds)
  endif()
  add_executable(${name} ${source})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${name} PRIVATE comet comet_options fmt::fmt nlohmann_json::nlohmann_json)
  if(COMET_FUZZ)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/fuzz)
    add_dependencies(fuzzers ${name})
    # tools/fuzz.sh finds the seeds of a harness beside it.
    file(WRITE ${PROJECT_BINARY_DIR}/fuzz/${name}.seeds "${seeds}\n")
  else()
    target_sources(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/fuzz/replay_main.cpp)
    add_test(NAME ${name} COMMAND ${name} ${seeds})
    set_tests_properties(${name} PROPERTIES TIMEOUT 60 LABELS fuzz)
  endif()
endfunction()
