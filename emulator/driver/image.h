// A module's image, as far as a driver reads it before it compiles anything: which code serves the device, and which
// entry points that code declares.
#pragma once
#include <stddef.h>

#include <map>
#include <string>

#include "driver.h"

namespace emulator {

struct EntryPoint {
  size_t params_bytes;
  unsigned threads;  // of a block, at most; 0 where the text sets no bound
};

struct Image {
  int architecture = 0;  // that a device runs it for, 90 for sm_90
  // Of the newest PTX that the device could compile. None, where there is no PTX that can be read.
  std::map<std::string, EntryPoint> entry_points;
};

// On an error, `what` says what was found, or is empty where the result says it all.
Result read_image(const char* image, Image* read, std::string* what);

}  // namespace emulator
