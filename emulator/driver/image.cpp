// The two forms of an image: PTX, which is text, and a fat binary, which holds PTX and machine code of several
// architectures. Fat binaries are not documented; the offsets are those of what fatbinary of CUDA 13.0 writes:
//
//   header   0 u32 magic, 4 u16 version, 6 u16 bytes of the header, 8 u64 bytes of all entries
//   entry    0 u16 kind, 4 u32 bytes of the entry's header, 8 u64 bytes of the payload, 28 u32 architecture,
//            56 u64 bytes of the payload once it is unpacked; 0 for one that is not compressed
#include "image.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <string_view>
#include <vector>

namespace emulator {
namespace {

constexpr uint32_t kFatbinMagic = 0xBA55ED50;
constexpr uint16_t kEntryPtx = 1, kEntryElf = 2;
constexpr uint32_t kEntryHeader = 64;

template <typename T>
T read(const char* from) {
  T value;
  memcpy(&value, from, sizeof value);
  return value;
}

// The words and signs of PTX. Comments and blank space lie between them.
class Tokens {
 public:
  explicit Tokens(std::string_view text) : text_(text) {}

  // The next one; empty at the end.
  std::string_view next() {
    skip();
    const size_t begin = at_;
    while (at_ < text_.size() && is_word(text_[at_])) at_++;
    if (at_ == begin && at_ < text_.size()) at_++;
    return text_.substr(begin, at_ - begin);
  }
  std::string_view peek() {
    const Tokens before = *this;
    const std::string_view token = next();
    *this = before;
    return token;
  }
  int line() const { return line_; }

 private:
  static bool is_word(char c) { return isalnum(static_cast<unsigned char>(c)) || strchr("_.$%", c); }
  bool starts(const char* with) const { return text_.substr(at_, 2) == with; }
  void skip_until(const char* sign, bool behind) {
    while (at_ < text_.size() && !starts(sign)) step();
    if (behind) at_ = std::min(at_ + 2, text_.size());
  }
  void step() { line_ += text_[at_++] == '\n'; }
  void skip() {
    while (at_ < text_.size()) {
      if (isspace(static_cast<unsigned char>(text_[at_]))) {
        step();
      } else if (starts("//")) {
        while (at_ < text_.size() && text_[at_] != '\n') at_++;
      } else if (starts("/*")) {
        skip_until("*/", true);
      } else {
        return;
      }
    }
  }

  std::string_view text_;
  size_t at_ = 0;
  int line_ = 1;
};

// The declarations of entry points in a module's PTX; the instructions are not looked at.
class Declarations {
 public:
  Declarations(std::string_view text, Image* image) : tokens_(text), image_(*image) {}

  // Empty, or what is wrong, with the line of the text.
  std::string read_all() {
    while (error_.empty()) {
      const std::string_view token = tokens_.next();
      if (token.empty()) break;
      if (token == ".entry") entry();
    }
    return error_;
  }

 private:
  void expect(std::string_view found, const std::string& expected) {
    if (!error_.empty()) return;
    error_ = "line " + std::to_string(tokens_.line()) + " of the PTX: expected " + expected + ", found \"" +
             std::string(found) + "\"";
  }
  size_t number(const std::string& of) {
    const std::string_view token = tokens_.next();
    size_t value = 0;
    for (const char c : token) {
      if (!isdigit(static_cast<unsigned char>(c)) || value > UINT32_MAX) return expect(token, of), 0;
      value = 10 * value + static_cast<size_t>(c - '0');
    }
    if (token.empty()) expect(token, of);
    return value;
  }
  // Of a fundamental type such as .b8 or .u64; 0 for another word.
  static size_t bytes_of(std::string_view type) {
    static const std::map<std::string_view, size_t> all = {
        {".b8", 1},  {".u8", 1},  {".s8", 1},  {".b16", 2}, {".u16", 2}, {".s16", 2}, {".f16", 2}, {".b32", 4},
        {".u32", 4}, {".s32", 4}, {".f32", 4}, {".b64", 8}, {".u64", 8}, {".s64", 8}, {".f64", 8}};
    const auto found = all.find(type);
    return found == all.end() ? 0 : found->second;
  }
  void param(size_t* bytes) {
    size_t alignment = 0;
    std::string_view token = tokens_.next();
    if (token == ".align") {
      alignment = number("an alignment");
      token = tokens_.next();
    }
    const size_t element = bytes_of(token);
    if (!element) return expect(token, "the type of a parameter");
    tokens_.next();  // its name
    size_t count = 1;
    if (tokens_.peek() == "[") {
      tokens_.next();
      count = number("the size of a parameter");
      if (const auto end = tokens_.next(); end != "]") return expect(end, "]");
    }
    alignment = std::max(alignment, element);
    *bytes = (*bytes + alignment - 1) / alignment * alignment + element * count;
  }
  void entry() {
    const std::string name(tokens_.next());
    EntryPoint entry{0, 0};
    if (tokens_.peek() == "(") {
      tokens_.next();
      while (error_.empty()) {
        const std::string_view token = tokens_.next();
        if (token == ")") break;
        if (token == ".param") {
          param(&entry.params_bytes);
        } else if (token != ",") {
          expect(token, "a parameter of " + name);
        }
      }
    }
    while (error_.empty() && tokens_.peek() != "{") {
      const std::string_view token = tokens_.next();
      if (token == ";" || token.empty()) return;  // declared here, defined elsewhere
      if (token == ".maxntid" || token == ".reqntid") entry.threads = extents();
    }
    image_.entry_points[name] = entry;
  }
  unsigned extents() {
    size_t product = number("a number of threads");
    while (error_.empty() && tokens_.peek() == ",") {
      tokens_.next();
      product *= number("a number of threads");
    }
    return static_cast<unsigned>(product);
  }

  Tokens tokens_;
  Image& image_;
  std::string error_;
};

Result read_ptx(std::string_view text, Image* image, std::string* what) {
  *what = Declarations(text.substr(0, text.find('\0')), image).read_all();
  return what->empty() ? kSuccess : kInvalidImage;
}

// Whether a device of this compute capability can run an entry: machine code of the same major and no higher minor
// version, or PTX of no higher version.
bool serves(uint16_t kind, uint32_t architecture) {
  const uint32_t major = static_cast<uint32_t>(settings().capability_major);
  const uint32_t minor = static_cast<uint32_t>(settings().capability_minor);
  if (kind == kEntryElf) return architecture / 10 == major && architecture % 10 <= minor;
  return kind == kEntryPtx && architecture <= major * 10 + minor;
}

// A driver takes machine code before PTX, and of either the newest.
Result read_fatbin(const char* image, Image* read_image, std::string* what) {
  const char* entry = image + read<uint16_t>(image + 6);
  uint64_t left = read<uint64_t>(image + 8);
  int machine_code = 0, newest_ptx = 0;
  std::string_view text;
  bool compressed = false;
  while (left > 0) {
    const uint32_t header = left < kEntryHeader ? 0 : read<uint32_t>(entry + 4);
    const uint64_t payload = header ? read<uint64_t>(entry + 8) : 0;
    if (header < kEntryHeader || header > left || payload > left - header) {
      *what = "an entry of the fat binary is longer than what is left of it, " + std::to_string(left) + " bytes";
      return kInvalidImage;
    }
    const uint16_t kind = read<uint16_t>(entry);
    const int architecture = static_cast<int>(read<uint32_t>(entry + 28));
    if (serves(kind, read<uint32_t>(entry + 28))) {
      if (kind == kEntryElf) machine_code = std::max(machine_code, architecture);
      if (kind == kEntryPtx && architecture > newest_ptx) {
        newest_ptx = architecture;
        compressed = read<uint64_t>(entry + 56) != 0;
        text = {entry + header, payload};
      }
    }
    entry += header + payload;
    left -= header + payload;
  }
  read_image->architecture = machine_code ? machine_code : newest_ptx;
  if (!read_image->architecture) return kNoBinaryForGpu;
  if (!compressed) return read_ptx(text, read_image, what);
  say("the PTX of the image is compressed: its entry points are not compared with the kernels");
  return kSuccess;
}

}  // namespace

Result read_image(const char* image, Image* read_image, std::string* what) {
  what->clear();
  read_image->architecture = settings().capability_major * 10 + settings().capability_minor;
  if (read<uint32_t>(image) == kFatbinMagic) return read_fatbin(image, read_image, what);
  if (memcmp(image, "\177ELF", 4) == 0) return kSuccess;
  const std::string_view text(image);
  return Tokens(text).next() == ".version" ? read_ptx(text, read_image, what) : kInvalidImage;
}

}  // namespace emulator
