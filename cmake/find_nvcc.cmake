# Finds nvcc (CUMEGA_NVCC), and beside it the headers (CUMEGA_CUDA_INCLUDE) and the static runtime
# (CUMEGA_CUDART) of the toolkit. Looks at CUDACXX, CUDA_HOME, PATH and the usual place of the
# toolkit, in this order. CUMEGA_CUDA_REASON is empty, or says what is missing.
find_program(CUMEGA_NVCC nvcc
  HINTS $ENV{CUDACXX} ENV CUDA_HOME PATH_SUFFIXES bin
  PATHS /usr/local/cuda
  DOC "nvcc, which compiles the CUDA backend")
if(EXISTS "$ENV{CUDACXX}")
  set(CUMEGA_NVCC $ENV{CUDACXX})
endif()
set(CUMEGA_CUDA_REASON "")
if(NOT CUMEGA_NVCC)
  set(CUMEGA_CUDA_REASON "no nvcc was found (CUDACXX, CUDA_HOME, PATH, /usr/local/cuda)")
  return()
endif()

get_filename_component(nvcc_real ${CUMEGA_NVCC} REALPATH)
get_filename_component(nvcc_bin ${nvcc_real} DIRECTORY)
get_filename_component(CUMEGA_CUDA_ROOT ${nvcc_bin}/.. ABSOLUTE)
set(cuda_target ${CUMEGA_CUDA_ROOT}/targets/${CMAKE_SYSTEM_PROCESSOR}-linux)
find_path(CUMEGA_CUDA_INCLUDE cuda_runtime_api.h
  HINTS ${CUMEGA_CUDA_ROOT}/include ${cuda_target}/include)
find_library(CUMEGA_CUDART cudart_static
  HINTS ${CUMEGA_CUDA_ROOT}/lib64 ${CUMEGA_CUDA_ROOT}/lib ${cuda_target}/lib)
if(NOT CUMEGA_CUDA_INCLUDE OR NOT CUMEGA_CUDART)
  set(CUMEGA_CUDA_REASON
    "${CUMEGA_NVCC} has no cuda_runtime_api.h or no libcudart_static.a beside it")
  return()
endif()
execute_process(COMMAND ${CUMEGA_NVCC} --version OUTPUT_VARIABLE nvcc_says ERROR_QUIET)
string(REGEX MATCH "release ([0-9]+\\.[0-9]+)" nvcc_release "${nvcc_says}")
set(CUMEGA_CUDA_VERSION "${CMAKE_MATCH_1}")
if(NOT nvcc_release OR CUMEGA_CUDA_VERSION VERSION_LESS 12.0)
  set(CUMEGA_CUDA_REASON
    "${CUMEGA_NVCC} is of CUDA ${CUMEGA_CUDA_VERSION}, expected 12.0 or newer")
endif()
