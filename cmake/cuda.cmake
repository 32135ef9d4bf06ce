# SPDX-License-Identifier: Apache-2.0
# src/cuda: *.c by the C compiler with CUDA's headers, *.cu by nvcc, one object each. A file that needs Hopper's own
# instructions is named *_sm90.cu and compiled for sm_90a alone; all others for any GPU from compute capability 8.0
# on (PTX, which the driver compiles) and ready-made for Hopper. The runtime library is linked in statically: it
# loads the driver itself, so the binary runs where there is no GPU. CMake's own CUDA language is not used, since it
# tries to link programs, which needs more of a toolkit than compiling does.
#
# nvcc is looked for in TOKAMAK_NVCC, in the cache folder of tools/cuda.sh, on PATH, in /usr/local/cuda.

set(TOKAMAK_NVCC "" CACHE STRING "nvcc to use; 'off' for a build without CUDA code")
option(TOKAMAK_LINES "line numbers in Hopper's code, which tools/races.py needs and profilers like" OFF)
if(NOT TOKAMAK_NVCC STREQUAL "off")
  set(cuda_cache "$ENV{TOKAMAK_CACHE}")
  if(NOT cuda_cache)
    set(cuda_cache "$ENV{XDG_CACHE_HOME}")
    if(NOT cuda_cache)
      set(cuda_cache "$ENV{HOME}/.cache")
    endif()
    set(cuda_cache "${cuda_cache}/tokamak-build")
  endif()
  file(GLOB cuda_fetched "${cuda_cache}/cuda-*/bin/nvcc")
  find_program(cuda_on_path nvcc HINTS /usr/local/cuda/bin NO_CACHE)
  foreach(candidate "${TOKAMAK_NVCC}" ${cuda_fetched} "${cuda_on_path}")
    if(candidate AND EXISTS "${candidate}" AND NOT NVCC)
      file(REAL_PATH "${candidate}" NVCC)
    endif()
  endforeach()
  if(TOKAMAK_NVCC AND NOT NVCC)
    message(FATAL_ERROR "TOKAMAK_NVCC: ${TOKAMAK_NVCC} is not there")
  endif()
endif()
if(NOT NVCC)
  message(STATUS "CUDA: off, no nvcc; `tools/cuda.sh` fetches one")
  return()
endif()

get_filename_component(cuda_root "${NVCC}" DIRECTORY)
get_filename_component(cuda_root "${cuda_root}" DIRECTORY)
find_library(cuda_runtime libcudart_static.a PATHS ${cuda_root} ${cuda_root}/targets/x86_64-linux
  PATH_SUFFIXES lib lib64 NO_DEFAULT_PATH NO_CACHE REQUIRED)
set(CUDA_RUNTIME ${cuda_runtime} ${CMAKE_DL_LIBS} rt)
execute_process(COMMAND ${NVCC} --version OUTPUT_VARIABLE cuda_version)
string(REGEX MATCH "release ([0-9.]+)" _ "${cuda_version}")
message(STATUS "CUDA: ${CMAKE_MATCH_1}, ${NVCC}")

file(GLOB cuda_c CONFIGURE_DEPENDS src/cuda/*.c)
file(GLOB cuda_cu CONFIGURE_DEPENDS src/cuda/*.cu)
set_source_files_properties(${cuda_c} PROPERTIES INCLUDE_DIRECTORIES ${cuda_root}/include)
foreach(source ${cuda_cu})
  get_filename_component(name ${source} NAME)
  set(object ${CMAKE_BINARY_DIR}/cuda/${name}.o)
  if(name MATCHES "_sm90\\.cu$")
    set(arch -gencode arch=compute_90a,code=sm_90a $<$<BOOL:${TOKAMAK_LINES}>:-lineinfo>)
  else()
    set(arch -gencode arch=compute_80,code=compute_80 -gencode arch=compute_90,code=sm_90)
  endif()
  add_custom_command(OUTPUT ${object} DEPFILE ${object}.d DEPENDS ${source}
    COMMAND ${CCACHE} ${NVCC} -c -std=c++17 -O3 --fmad=false --compress-mode=size ${arch} -I${CMAKE_SOURCE_DIR}/src
      -I${CMAKE_SOURCE_DIR}/include -Xcompiler=-fPIC,-fno-exceptions,-fno-rtti,-fno-threadsafe-statics,-Wall,-Wextra
      -MD -MT ${object} -MF ${object}.d ${source} -o ${object}
    COMMAND_EXPAND_LISTS COMMENT "Building CUDA object ${name}.o" VERBATIM)
  list(APPEND cuda_objects ${object})
endforeach()
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/cuda)
set_source_files_properties(${cuda_objects} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
target_sources(tokamak_objects PRIVATE ${cuda_c})
set_source_files_properties(src/core/kernels.c src/core/device.c PROPERTIES COMPILE_DEFINITIONS TOKAMAK_CUDA)
