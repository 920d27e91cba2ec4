// Finds tests/data: ctest says where it is, and a test started by hand looks upward from where it stands.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace bpfsim {

inline std::filesystem::path test_data_dir() {
  namespace fs = std::filesystem;
  if (const char* dir = std::getenv("BPFSIM_TEST_DATA")) return dir;
  for (fs::path dir = fs::current_path();; dir = dir.parent_path()) {
    if (fs::exists(dir / "tests" / "data" / "regenerate")) return dir / "tests" / "data";
    if (dir == dir.parent_path()) throw std::runtime_error("tests/data not found: set BPFSIM_TEST_DATA");
  }
}

inline std::vector<uint8_t> read_test_data(const std::string& name) {
  std::ifstream file(test_data_dir() / name, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + (test_data_dir() / name).string());
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace bpfsim
