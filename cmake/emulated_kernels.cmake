# Makes kernels compile with the C++ compiler, for emulated CUDA (docs/emulation.md). A load or
# store that is not aligned to its type stops the process, since it is an error on a GPU. With
# CUMEGA_SANITIZE the sanitizer says where. Kernels are then not optimised, since that would take
# several times as long as compiling them.
function(emulated_kernels)
  set(options -Wno-unknown-pragmas)
  if(NOT CUMEGA_SANITIZE)
    list(APPEND options -fsanitize=alignment -fsanitize-undefined-trap-on-error)
  elseif(CUMEGA_SANITIZE STREQUAL "thread") # nor is the emulation that runs them
    list(APPEND options -fno-sanitize=thread)
  else()
    list(APPEND options -O0)
  endif()
  if(CUMEGA_FUZZ)
    list(APPEND options -fno-sanitize=undefined)
  endif()
  set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "${options}")
endfunction()
