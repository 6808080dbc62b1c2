# What `cmake --install` installs, and how another project finds it. There are three components,
# which are also the Debian packages: library (libcumega.so.0), development (headers, archive,
# CMake and pkg-config files) and program (cumega, its manual page, example data).
include(CMakePackageConfigHelpers)

set(cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/cumega)
set(build_dir ${PROJECT_BINARY_DIR}/cmake)
get_target_property(type cumega TYPE)

set(targets cumega)
set(HAS_ARCHIVE OFF)
if(TARGET cumega_static)
  list(APPEND targets cumega_static)
endif()
if(TARGET cumega_static OR type STREQUAL STATIC_LIBRARY)
  set(HAS_ARCHIVE ON)
endif()
install(TARGETS ${targets} EXPORT cumegaTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library NAMELINK_COMPONENT development
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
set(PACKAGE_HAS_CUDA FALSE)
if(CUMEGA_HAS_CUDA AND NOT CUMEGA_EMULATION)
  set(PACKAGE_HAS_CUDA TRUE)
  install(TARGETS cumega_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library
    NAMELINK_SKIP)
endif()
install(EXPORT cumegaTargets NAMESPACE cumega:: DESTINATION ${cmake_dir} COMPONENT development)
export(EXPORT cumegaTargets NAMESPACE cumega:: FILE ${build_dir}/cumegaTargets.cmake)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/cumega DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  COMPONENT development FILES_MATCHING PATTERN "*.h")

# The licence, where a Debian package has it.
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE RENAME copyright COMPONENT library
  DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/libcumega0)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE RENAME copyright COMPONENT development
  DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/libcumega-dev)

# find_package(cumega), for the installed tree and for the build tree.
configure_file(${PROJECT_SOURCE_DIR}/cmake/cumegaConfig.cmake.in
  ${build_dir}/cumegaConfig.cmake @ONLY)
write_basic_package_version_file(${build_dir}/cumegaConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${build_dir}/cumegaConfig.cmake ${build_dir}/cumegaConfigVersion.cmake
  DESTINATION ${cmake_dir} COMPONENT development)

# The pkg-config file. Its prefix is relative to the file, so an installed tree may be moved.
set(pc_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH PC_PREFIX /prefix/${pc_dir} /prefix)
string(REGEX REPLACE "/$" "" PC_PREFIX "${PC_PREFIX}")
set(PC_PRIVATE .private)
if(type STREQUAL STATIC_LIBRARY) # the only library: every program needs what it needs
  set(PC_PRIVATE "")
endif()
set(PC_DLPACK "")
if(NOT DLPACK_INCLUDE_DIR IN_LIST CMAKE_C_IMPLICIT_INCLUDE_DIRECTORIES)
  set(PC_DLPACK " -I${DLPACK_INCLUDE_DIR}")
endif()
configure_file(${PROJECT_SOURCE_DIR}/cmake/cumega.pc.in ${build_dir}/cumega.pc @ONLY)
install(FILES ${build_dir}/cumega.pc DESTINATION ${pc_dir} COMPONENT development)

# The program finds the library of its own tree, also after a move. A distribution that wants no
# run path sets CMAKE_SKIP_INSTALL_RPATH.
if(TARGET cumega_program)
  file(RELATIVE_PATH to_library /prefix/${CMAKE_INSTALL_BINDIR} /prefix/${CMAKE_INSTALL_LIBDIR})
  set_target_properties(cumega_program PROPERTIES INSTALL_RPATH "$ORIGIN/${to_library}")
  install(TARGETS cumega_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT program)
  install(FILES ${PROJECT_SOURCE_DIR}/docs/cumega.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1
    COMPONENT program)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/tests/golden/
    DESTINATION ${CMAKE_INSTALL_DATADIR}/cumega COMPONENT program
    FILES_MATCHING PATTERN "*-trained-*.safetensors")
  install(FILES ${PROJECT_SOURCE_DIR}/LICENSE RENAME copyright COMPONENT program
    DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/cumega)
endif()
