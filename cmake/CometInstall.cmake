# `cmake --install`: headers, static library and what find_package(comet) reads.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/comet)

install(TARGETS comet EXPORT cometTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/comet ${PROJECT_BINARY_DIR}/include/comet
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp")
install(EXPORT cometTargets NAMESPACE comet:: DESTINATION ${package_dir})

configure_package_config_file(cmake/cometConfig.cmake.in cometConfig.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(cometConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/cometConfig.cmake ${PROJECT_BINARY_DIR}/cometConfigVersion.cmake
  DESTINATION ${package_dir})

# The command's target is cli's business; install it where there is one.
if(TARGET comet_cli)
  install(TARGETS comet_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
foreach(plugin comet_mpi comet_nvshmem)
  if(TARGET ${plugin})
    install(TARGETS ${plugin} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  endif()
endforeach()
