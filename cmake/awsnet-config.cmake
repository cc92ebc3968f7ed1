# find_package(awsnet) gives the targets awsnet::awsnet, the shared library, and awsnet::static, the archive, each
# where it is installed. Found through this file's own place, so an installed tree may be moved.

# <prefix>/share/awsnet/cmake
get_filename_component(_awsnet_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
set(_awsnet_libraries lib lib64 "lib/${CMAKE_LIBRARY_ARCHITECTURE}")

# What an earlier configuration found may be another tree's.
unset(AWSNET_INCLUDE_DIR CACHE)
unset(AWSNET_LIBRARY CACHE)
unset(AWSNET_STATIC_LIBRARY CACHE)

find_path(AWSNET_INCLUDE_DIR awsnet.h PATHS "${_awsnet_prefix}/include" NO_DEFAULT_PATH)
find_library(AWSNET_LIBRARY awsnet PATHS "${_awsnet_prefix}" PATH_SUFFIXES ${_awsnet_libraries} NO_DEFAULT_PATH)
find_library(AWSNET_STATIC_LIBRARY
  NAMES ${CMAKE_STATIC_LIBRARY_PREFIX}awsnet${CMAKE_STATIC_LIBRARY_SUFFIX}
  PATHS "${_awsnet_prefix}" PATH_SUFFIXES ${_awsnet_libraries} NO_DEFAULT_PATH)
mark_as_advanced(AWSNET_INCLUDE_DIR AWSNET_LIBRARY AWSNET_STATIC_LIBRARY)

if(NOT AWSNET_INCLUDE_DIR OR NOT AWSNET_LIBRARY)
  set(awsnet_FOUND FALSE)
  set(awsnet_NOT_FOUND_MESSAGE "awsnet.h or the library awsnet is missing under ${_awsnet_prefix}")
  return()
endif()

if(NOT TARGET awsnet::awsnet)
  add_library(awsnet::awsnet UNKNOWN IMPORTED)
  set_target_properties(awsnet::awsnet PROPERTIES
    IMPORTED_LOCATION "${AWSNET_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${AWSNET_INCLUDE_DIR}")
endif()

if(AWSNET_STATIC_LIBRARY AND NOT TARGET awsnet::static)
  include(CMakeFindDependencyMacro)
  find_dependency(Threads)
  add_library(awsnet::static STATIC IMPORTED)
  set_target_properties(awsnet::static PROPERTIES
    IMPORTED_LOCATION "${AWSNET_STATIC_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${AWSNET_INCLUDE_DIR}"
    INTERFACE_LINK_LIBRARIES "Threads::Threads;${CMAKE_DL_LIBS};m")
endif()

unset(_awsnet_prefix)
unset(_awsnet_libraries)
