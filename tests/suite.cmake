# suite(NAME ...) builds the test suite NAME.c and adds the ctest tests that run it.
#
#   FILES file...        its other sources
#   LIBRARIES target...  what it links besides libcumega and check: a harness, say
#   INSIDE               it sees src/ and links the library's objects. Without INSIDE it uses the
#                        shared library, as a program does
#   WRAP call...         the linker sends calls of these C functions to the suite's __wrap_<call>
#   PROGRAM              it runs the program cumega; the macro PROGRAM is its path
#   RECORDER             it loads tests/nvtx/recorder.c; the macro RECORDER is its path. A build
#                        without the headers of NVTX leaves the suite out
#   RUNS_ON place...     where it runs; the place is the label of the test. Default: cpu
#                          cpu        on the CPU
#                          device     on CUDA, or on emulated CUDA if the build has that. After cpu
#                                     this is a second test, NAME_cuda or NAME_emulation; alone it
#                                     is NAME. Left out without CUDA, skipped without a GPU
#                          emulation  on emulated CUDA only, with the library emulated_run
#   IN_RANGES            one more test, NAME_in_ranges: on the CPU with a profiler attached
#   SLOW_ON place        the test there, cpu or emulation, gets the label slow too
function(suite name)
  cmake_parse_arguments(PARSE_ARGV 1 SUITE "INSIDE;PROGRAM;RECORDER;IN_RANGES" ""
    "FILES;LIBRARIES;WRAP;RUNS_ON;SLOW_ON")
  if(SUITE_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "suite(${name}): what is ${SUITE_UNPARSED_ARGUMENTS}?")
  endif()
  set_property(GLOBAL APPEND PROPERTY CUMEGA_SUITES ${CMAKE_CURRENT_SOURCE_DIR}/${name}.c)
  if(NOT SUITE_RUNS_ON)
    set(SUITE_RUNS_ON cpu)
  endif()
  if((SUITE_RUNS_ON STREQUAL "device" AND NOT CUMEGA_HAS_CUDA) OR
     (SUITE_RUNS_ON STREQUAL "emulation" AND NOT CUMEGA_EMULATION) OR
     (SUITE_RECORDER AND NOT CUMEGA_NVTX_INCLUDE))
    return()
  endif()

  add_executable(${name} ${name}.c ${SUITE_FILES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/harness)
  target_compile_definitions(${name} PRIVATE SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  if(SUITE_INSIDE)
    target_link_libraries(${name} PRIVATE cumega_inside)
  else()
    target_link_libraries(${name} PRIVATE cumega)
  endif()
  if(SUITE_RUNS_ON STREQUAL "emulation")
    list(APPEND SUITE_LIBRARIES emulated_run cumega_cuda)
  endif()
  target_link_libraries(${name} PRIVATE ${SUITE_LIBRARIES} cumega_flags PkgConfig::CHECK
    PkgConfig::JANSSON Threads::Threads m)
  foreach(call IN LISTS SUITE_WRAP)
    target_link_options(${name} PRIVATE LINKER:--wrap=${call})
  endforeach()
  if(SUITE_PROGRAM)
    target_compile_definitions(${name} PRIVATE PROGRAM="$<TARGET_FILE:cumega_program>")
    add_dependencies(${name} cumega_program)
  endif()
  if(SUITE_RECORDER)
    target_compile_definitions(${name} PRIVATE RECORDER="$<TARGET_FILE:nvtx_recorder>")
    add_dependencies(${name} nvtx_recorder)
  endif()
  if(CUMEGA_HAS_CUDA)
    add_dependencies(${name} cumega_cuda) # which libcumega opens at run time
  endif()
  suite_tests(${name})
endfunction()

# Adds the tests of a suite's executable, from the arguments of suite().
function(suite_tests name)
  if("cpu" IN_LIST SUITE_RUNS_ON)
    add_suite_test(${name} ${name} cpu)
  else()
    add_suite_test(${name} ${name} ${device_name})
  endif()
  if("cpu" IN_LIST SUITE_RUNS_ON AND "device" IN_LIST SUITE_RUNS_ON AND CUMEGA_HAS_CUDA)
    set(test ${name}_${device_name})
    add_suite_test(${test} ${name} ${device_name})
    set_tests_properties(${test} PROPERTIES ENVIRONMENT "${device_environment}")
  endif()
  if(SUITE_IN_RANGES AND CUMEGA_NVTX_INCLUDE)
    set(log ${CMAKE_CURRENT_BINARY_DIR}/${name}.ranges)
    add_suite_test(${name}_in_ranges ${name} cpu)
    set_tests_properties(${name}_in_ranges PROPERTIES ENVIRONMENT
      "NVTX_INJECTION64_PATH=$<TARGET_FILE:nvtx_recorder>;RECORDER_LOG=${log}")
    add_dependencies(${name} nvtx_recorder)
  endif()
endfunction()

# One test: an executable on a place, which is the test's label.
function(add_suite_test test executable place)
  add_test(NAME ${test} COMMAND ${executable})
  set_tests_properties(${test} PROPERTIES LABELS ${place})
  if(place IN_LIST SUITE_SLOW_ON)
    set_tests_properties(${test} PROPERTIES LABELS "${place};slow")
  endif()
  if(place STREQUAL device_name)
    set_tests_properties(${test} PROPERTIES SKIP_REGULAR_EXPRESSION "was asked for, but")
  endif()
endfunction()

# Stops if a suite of the tests is in no list.
function(refuse_unlisted_suites)
  get_property(listed GLOBAL PROPERTY CUMEGA_SUITES)
  file(GLOB_RECURSE suites CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/check_*.c
    ${CMAKE_CURRENT_SOURCE_DIR}/check_*.cpp)
  list(REMOVE_ITEM suites ${listed})
  if(suites)
    message(FATAL_ERROR "No CMakeLists.txt of the tests lists ${suites}")
  endif()
endfunction()
